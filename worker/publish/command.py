"""``hand-counter publish``: builds a publisher from its options and reports its progress."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Final

import cv2

from handcounter.client import LimitsWatch, tls_credentials
from process.backoff import Backoff
from worker.publish.frame_queue import FrameQueue
from worker.publish.open_source import name_of, open_source
from worker.publish.options import LimitsOptions, PublishOptions
from worker.publish.publisher import Progress, Publisher
from worker.publish.source import SourceError
from worker.publish.thinner import Thinner
from worker.queue.keys import Keys
from worker.queue.redis_client import connect
from worker.stop_signals import stop_signals

logger = logging.getLogger(__name__)

LIMITS_S: Final = 1.0
"""How long a start waits for the stream's limit; the frames of a source that is slower to open are thinned anyway."""

TELL_S: Final = 1.0
"""How often the source's rate is looked at."""

_STOP_S: Final = 0.1
"""How soon a start that waits notices a signal."""

_START = Progress(0, 0, 0, 0, 0.0)


def run_publish(options: PublishOptions) -> int:
    """Publishes until the source ends or a signal arrives.

    Returns:
        The exit code. If OpenCV holds a thread in a call that can't be interrupted, the process exits in here instead.
    """
    cv2.setNumThreads(1)  # frames are processed one at a time, and the other cores are for counting
    try:
        source = open_source(options.source)
    except SourceError as error:
        logger.error("%s", error)
        return 1
    destination = options.destination
    stream, name = destination.stream_name, name_of(options.source).name
    client, keys = connect(destination.redis, destination.access), Keys(destination.prefix)
    queue = FrameQueue(
        client,
        keys,
        stream,
        payload_ttl=destination.payload_ttl,
        max_queue=destination.max_queue,
        backoff=Backoff(),
        waits=not source.live,
        live=source.live or source.paced,
    )
    watch = _watch_limits(options.limits, stream) if options.limits else None
    due = Thinner(watch, stream, time.monotonic) if watch else None
    publisher = Publisher(source, queue, count=options.count, duration=options.duration, due=due)
    with stop_signals(publisher.done) as signalled:
        logger.info("publishing", extra={"stream": stream, "source": name, "queue": keys.frames})
        if watch and options.limits:
            _await_limits(watch, publisher, stream, options.limits.address)
        publisher.start()
        _report_progress(publisher, queue, stream, options.progress, watch)
        interruptible = publisher.stop()
    if watch:
        watch.close()
    total = publisher.progress()
    logger.info(
        "finished",
        extra={"stream": stream, "seconds": round(total.seconds, 1), **_figures(total), **_pushed_out(queue)},
    )
    if isinstance(publisher.error, SourceError):
        logger.error("%s", publisher.error)
    elif not (total.published or total.thinned or publisher.error or signalled.is_set()):
        logger.error("no frame was published", extra={"stream": stream, "source": name})
    code = 0 if signalled.is_set() or ((total.published or total.thinned) and not publisher.error) else 1
    if not interruptible:
        logging.shutdown()
        os._exit(code)
    client.close()
    return code


def _watch_limits(options: LimitsOptions, stream: str) -> LimitsWatch:
    """Returns the limits, of which none is known yet."""
    credentials = tls_credentials(options.ca, options.certificate, options.key) if options.ca else None
    watch = LimitsWatch(options.address, credentials=credentials)
    watch.watch(stream)
    return watch


def _await_limits(watch: LimitsWatch, publisher: Publisher, stream: str, address: str) -> None:
    """Waits for the first limit, for a moment, so that the first frames are thinned too."""
    started = time.monotonic()
    while not (told := watch.wait_told(_STOP_S)) and time.monotonic() < started + LIMITS_S:
        if publisher.done.is_set():
            return
    if told and (limit := watch.limit(stream)):
        about = {"stream": stream, "sidecar": address, "limit": limit.fps, "source": limit.source.name.lower()}
        logger.info("only frames that will be admitted are published", extra=about)


def _report_progress(
    publisher: Publisher, queue: FrameQueue, stream: str, interval: float, watch: LimitsWatch | None
) -> None:
    """Logs a progress line every `interval` seconds until the publisher is done; meanwhile tells the source's rate."""
    before, due = publisher.progress(), interval
    while not publisher.wait(min(max(0.0, due - publisher.progress().seconds), TELL_S if watch else math.inf)):
        now = publisher.progress()
        if watch:
            watch.watch(stream, publisher.source_fps())
        if now.seconds < due:
            continue
        logger.info("progress", extra={"stream": stream, **_figures(now, before), **_pushed_out(queue)})
        before, due = now, now.seconds + interval


def _figures(now: Progress, before: Progress = _START) -> dict[str, object]:
    """Returns what a line says about a publisher: its frames in total, and its rate since the line before."""
    seconds = now.seconds - before.seconds
    fps = (now.published - before.published) / seconds if seconds > 0 else 0.0
    return {"published": now.published, "fps": round(fps, 1), "thinned": now.thinned, "dropped": now.dropped}


def _pushed_out(queue: FrameQueue) -> dict[str, object]:
    """Returns the number of frames, of any stream, that this publisher pushed out of the full queue before they were read."""
    return {"pushed_out": queue.pushed_out}
