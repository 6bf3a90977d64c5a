"""``hand-counter publish``: builds a publisher out of its flags and watches it."""

from __future__ import annotations

import logging
import os
import time

import cv2

from process.address import mask_password
from process.backoff import Backoff
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from worker.picture import Picture
from worker.publish.film import DrawnCamera, Film, Folder
from worker.publish.frame_queue import FrameQueue
from worker.publish.live import LiveCamera
from worker.publish.publisher import Progress, Publisher
from worker.publish.source import Encode, Kind, Source, SourceError, kind_of
from worker.queue.keys import Keys
from worker.queue.redis_client import connect
from worker.stop_signals import stop_signals
from worker.synthetic.spec import parse_synthetic

logger = logging.getLogger(__name__)


def run_publish(
    *,
    source: str,
    stream_name: str,
    redis: RedisUrl,
    redis_access: RedisAccess,
    loop: bool,
    fast: bool,
    source_fps: float,
    count: int | None,
    duration: float,
    jpeg_quality: int,
    payload_ttl: float,
    max_queue: int,
    prefix: str,
    progress: float,
) -> int:
    """Publishes until the source ends or a signal comes; the arguments are those of PublishSettings.

    Returns:
        The exit code. Where OpenCV holds a thread in a call that can't be interrupted, the process ends right here.
    """
    cv2.setNumThreads(1)  # one frame at a time is enough, and the other cores have hands to count
    try:
        frames = open_source(source, jpeg_encoder(jpeg_quality), loop=loop, fast=fast, source_fps=source_fps)
    except SourceError as error:
        logger.error("%s", error)
        return 1
    client = connect(redis, redis_access)
    queue = FrameQueue(
        client, Keys(prefix), stream_name, payload_ttl=payload_ttl, max_queue=max_queue, backoff=Backoff()
    )
    publisher = Publisher(frames, queue, count=count, duration=duration)
    with stop_signals(publisher.done) as signalled:
        logger.info("publishing %s as %s to %s", mask_password(source), stream_name, Keys(prefix).frames)
        publisher.start()
        _watch(publisher, stream_name, progress)
        interruptible = publisher.stop()
    total = publisher.progress()
    logger.info("%s: the end after %.1f s: %s", stream_name, total.seconds, _line(total, total.seconds))
    if isinstance(publisher.error, SourceError):
        logger.error("%s", publisher.error)
    elif not (total.published or publisher.error or signalled.is_set()):
        logger.error("no frame of %s was published", mask_password(source))
    code = 0 if signalled.is_set() or (total.published and not publisher.error) else 1
    if not interruptible:
        logging.shutdown()
        os._exit(code)
    client.close()
    return code


def open_source(source: str, encode: Encode, *, loop: bool, fast: bool, source_fps: float) -> Source:
    """Builds what gives the frames. Raises SourceError."""
    kind, start = kind_of(source), time.time()
    if kind is Kind.SYNTHETIC:
        return DrawnCamera(parse_synthetic(source), encode, paced=not fast)
    if kind is Kind.WEBCAM:
        return LiveCamera.from_webcam(int(source), encode)
    if kind is Kind.CAMERA_URL:
        return LiveCamera.from_url(source, encode)
    if kind is Kind.FOLDER:
        return Folder(source, encode, fps=source_fps, start=start, loop=loop, paced=not fast)
    return Film(source, encode, start=start, loop=loop, paced=not fast)


def jpeg_encoder(quality: int) -> Encode:
    """Gives what turns pictures into JPEGs of this quality, 1 to 100."""

    def encode(picture: Picture) -> bytes:
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    return encode


def _watch(publisher: Publisher, stream_name: str, interval: float) -> None:
    """Logs a line about the progress now and then, until there is nothing left to do."""
    before, due = publisher.progress(), interval
    while not publisher.wait(max(0.0, due - publisher.progress().seconds)):
        now = publisher.progress()
        if now.seconds < due:
            continue
        logger.info("%s: %s", stream_name, _line(now, now.seconds - before.seconds, before.published))
        before, due = now, now.seconds + interval


def _line(progress: Progress, seconds: float, published_before: int = 0) -> str:
    fps = (progress.published - published_before) / seconds if seconds > 0 else 0.0
    return f"{progress.published} published, {fps:.1f} fps, {progress.dropped} dropped"
