"""``hand-counter publish``: builds a publisher from its options and reports its progress."""

from __future__ import annotations

import logging
import os

import cv2

from process.backoff import Backoff
from worker.publish.frame_queue import FrameQueue
from worker.publish.open_source import name_of, open_source
from worker.publish.options import PublishOptions
from worker.publish.publisher import Progress, Publisher
from worker.publish.source import SourceError
from worker.queue.keys import Keys
from worker.queue.redis_client import connect
from worker.stop_signals import stop_signals

logger = logging.getLogger(__name__)

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
    )
    publisher = Publisher(source, queue, count=options.count, duration=options.duration)
    with stop_signals(publisher.done) as signalled:
        logger.info("publishing", extra={"stream": stream, "source": name, "queue": keys.frames})
        publisher.start()
        _report_progress(publisher, queue, stream, options.progress)
        interruptible = publisher.stop()
    total = publisher.progress()
    logger.info(
        "finished",
        extra={"stream": stream, "seconds": round(total.seconds, 1), **_figures(total), **_pushed_out(queue)},
    )
    if isinstance(publisher.error, SourceError):
        logger.error("%s", publisher.error)
    elif not (total.published or publisher.error or signalled.is_set()):
        logger.error("no frame was published", extra={"stream": stream, "source": name})
    code = 0 if signalled.is_set() or (total.published and not publisher.error) else 1
    if not interruptible:
        logging.shutdown()
        os._exit(code)
    client.close()
    return code


def _report_progress(publisher: Publisher, queue: FrameQueue, stream: str, interval: float) -> None:
    """Logs a progress line every `interval` seconds until the publisher is done."""
    before, due = publisher.progress(), interval
    while not publisher.wait(max(0.0, due - publisher.progress().seconds)):
        now = publisher.progress()
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
