"""``hand-counter publish``: publishes one camera, film or folder, and reports its progress."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

import cv2

from worker.ending import end_process
from worker.publish.camera import Camera
from worker.publish.heap import use_little_memory
from worker.publish.options import PublishOptions
from worker.publish.publisher import GRACE_S, Progress
from worker.publish.source import SourceError
from worker.publish.uplink import Uplink
from worker.stop_signals import stop_signals

logger = logging.getLogger(__name__)

TELL_S: Final = 1.0
"""How often the source's rate is looked at."""

_START = Progress(0, 0, 0, 0, 0.0)


def run_publish(options: PublishOptions) -> int:
    """Publishes until the source ends or a signal arrives.

    Returns:
        The exit code. If a thread is in a call that can't be interrupted, the process exits in here instead.
    """
    use_little_memory()
    cv2.setNumThreads(1)  # frames are processed one at a time, and the other cores are for counting
    uplink = Uplink(options.destination, options.limits)
    camera = Camera(
        options.camera,
        uplink.sender,
        uplink.watch,
        count=options.count,
        duration=options.duration,
        retries=False,
    )
    done = camera.publisher.done
    with stop_signals(done) as signalled:
        camera.tell_rate()
        if uplink.await_limits(done):
            _report_limit(uplink, camera, options)
        uplink.start(lambda: {camera.name: camera.status()})
        camera.start()
        _report_progress(camera, done, options.progress)
        deadline = time.monotonic() + GRACE_S  # the capture ends while the last state is written
        camera.request_stop()
        interruptible = uplink.close(GRACE_S)
        interruptible = camera.join(max(0.0, deadline - time.monotonic())) and interruptible
    total = camera.progress()
    logger.info(
        "finished",
        extra={"stream": camera.name, "seconds": round(total.seconds, 1), **_figures(total), **_pushed_out(camera)},
    )
    if isinstance(camera.error, SourceError):
        logger.error("%s", camera.error)
    elif not (total.published or total.thinned or camera.error or signalled.is_set()):
        logger.error("no frame was published", extra={"stream": camera.name, "source": camera.source_name})
    code = 0 if signalled.is_set() or ((total.published or total.thinned) and not camera.error) else 1
    return code if interruptible else end_process(code)


def _report_limit(uplink: Uplink, camera: Camera, options: PublishOptions) -> None:
    if uplink.watch and options.limits and (limit := uplink.watch.limit(camera.name)):
        about = {"stream": camera.name, "sidecar": options.limits.address}
        logger.info(
            "only frames that will be admitted are published",
            extra={**about, "limit": limit.fps, "source": limit.source.name.lower()},
        )


def _report_progress(camera: Camera, done: threading.Event, interval: float) -> None:
    """Logs a progress line every `interval` seconds until the camera is done; meanwhile tells its rate."""
    before, due = camera.progress(), interval
    while not done.is_set():
        wait = min(max(0.0, due - camera.progress().seconds), TELL_S, camera.publisher.seconds_left())
        if done.wait(wait):
            return
        now = camera.progress()
        camera.tell_rate()
        if now.seconds < due:
            continue
        logger.info("progress", extra={"stream": camera.name, **_figures(now, before), **_pushed_out(camera)})
        before, due = now, now.seconds + interval


def _figures(now: Progress, before: Progress = _START) -> dict[str, object]:
    """Returns what a line says about a publisher: its frames in total, and its rate since the line before."""
    seconds = now.seconds - before.seconds
    fps = (now.published - before.published) / seconds if seconds > 0 else 0.0
    return {"published": now.published, "fps": round(fps, 1), "thinned": now.thinned, "dropped": now.dropped}


def _pushed_out(camera: Camera) -> dict[str, object]:
    """Returns the number of frames, of any stream, that this publisher pushed out of the full queue before they were read."""
    return {"pushed_out": camera.pushed_out}
