"""The frame worker: ``hand-counter run``, or ``python -m worker.hand_counter --fps 1``.

:func:`process_frame_callback` is the one function that a frame goes through; :func:`serve` feeds it from the queue.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from handcounter.client import RateLimiter, tls_credentials
from handcounter.pacing.schedule import Reason, stream_name_error, ts_error
from process.http import HttpEndpoint
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from worker.metrics import Metrics
from worker.picture import MAX_PIXELS, Picture, decode
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.reader import Limiter
from worker.queue.consumer import Queue
from worker.queue.frame import SKIP_OF_REASON, DeadReason, SkipReason
from worker.queue.keys import Keys
from worker.queue.redis_client import connect
from worker.results import FrameResult
from worker.stop_signals import stop_signals

if TYPE_CHECKING:
    from worker.hands.detection import HandDetector

logger = logging.getLogger(__name__)

STUCK_S = 60.0
"""A frame that takes longer is no slow frame: /healthz says so."""


def process_frame_callback(
    stream_name: str,
    ts: float,
    picture: bytes | Picture,
    *,
    detector: HandDetector,
    limiter: Limiter | None = None,
    decision: Reason | None = None,
    max_pixels: int = MAX_PIXELS,
) -> FrameResult | SkipReason:
    """Counts the hands of one frame, if the frame may be processed.

    Whether it may is asked of the limiter, unless the decision is handed in because it was made in a batch. By
    itself, with a sidecar running::

        limiter = RateLimiter("127.0.0.1:50051", default_fps=1.0)
        result = process_frame_callback("cam1", time.time(), jpeg, detector=detector, limiter=limiter)
        print(result if isinstance(result, SkipReason) else result.hand_count)

    Args:
        stream_name: the camera stream, 1 to 256 characters.
        ts: capture time by the frame's own clock, seconds.
        picture: a JPEG or PNG, or HxWx3 uint8 in BGR. It isn't looked at if the frame is denied.
        detector: finds the hands; used by one thread at a time.
        limiter: is asked; None only where the decision is given.
        decision: what the limiter said about this frame.
        max_pixels: a larger encoded picture is refused before it is decoded.

    Returns:
        The hands that were found, or why the frame was skipped.

    Raises:
        ValueError: The name or the ts makes no sense; or neither limiter nor decision was given.
        PictureError: The picture can't be decoded.
    """
    if decision is None:
        if limiter is None:
            raise ValueError("give a limiter to ask, or the decision")
        if error := stream_name_error(stream_name) or ts_error(ts):
            raise ValueError(error)
        (decision,) = limiter.decide([(stream_name, ts)])
    if decision is not Reason.ADMITTED:
        return SKIP_OF_REASON[decision]
    started = time.perf_counter()
    image = decode(picture, max_pixels) if isinstance(picture, bytes) else picture
    decoded = time.perf_counter()
    hands = detector.detect(image)
    detected = time.perf_counter()
    height, width = image.shape[:2]
    return FrameResult(
        stream_name=stream_name,
        ts=ts,
        backend=detector.name,
        width=width,
        height=height,
        hands=hands,
        decode_s=decoded - started if isinstance(picture, bytes) else 0.0,
        detect_s=detected - decoded,
    )


def serve(
    make_detector: Callable[[], HandDetector],
    *,
    sidecar: str,
    sidecar_ca: Path | None,
    sidecar_cert: Path | None,
    sidecar_key: Path | None,
    redis: RedisUrl,
    redis_access: RedisAccess,
    fps: float,
    http: str,
    threads: int,
    batch_size: int,
    max_age: float,
    decision_timeout: float,
    sidecar_wait: float,
    claim_idle: float,
    max_deliveries: int,
    max_pixels: int,
    prefix: str,
    consumer: str,
    counts_maxlen: int,
    dead_maxlen: int,
    drain: bool,
    grace: float,
    progress: float,
    metrics: Metrics | None = None,
) -> int:
    """Runs a worker until it is told to stop, or until the queue is drained; gives the exit code.

    The arguments are those of RunSettings, without those of the backend; make_detector is called once for each thread.
    """
    if threads > 1:
        cv2.setNumThreads(1)  # the frames are what runs in parallel
    detectors = [make_detector() for _ in range(threads)]
    counts = [
        functools.partial(process_frame_callback, detector=detector, decision=Reason.ADMITTED, max_pixels=max_pixels)
        for detector in detectors
    ]
    metrics = metrics or Metrics()
    consumer = consumer or f"{socket.gethostname()}-{os.getpid()}"
    queue = Queue(
        connect(redis, redis_access),
        Keys(prefix),
        consumer,
        counts_maxlen=counts_maxlen,
        dead_maxlen=dead_maxlen,
        on_trimmed=metrics.dead.labels(DeadReason.TRIMMED.value).inc,
    )
    limiter = RateLimiter(
        sidecar,
        default_fps=fps,
        deadline=decision_timeout,
        on_decided=lambda by, number: metrics.decisions.labels(by).inc(number),
        credentials=tls_credentials(sidecar_ca, sidecar_cert, sidecar_key) if sidecar_ca else None,
    )
    pipeline = Pipeline(
        queue,
        limiter,
        counts,
        metrics,
        batch_size=batch_size,
        max_age=max_age,
        claim_idle=claim_idle,
        max_deliveries=max_deliveries,
        drain=drain,
    )
    metrics.sidecar_up.set_function(lambda: float(not limiter.sidecar_unreachable))
    metrics.dropped_unread.set_function(lambda: queue.dropped_unread)
    metrics.redis_up.set_function(lambda: float(not queue.trouble))

    def health() -> tuple[bool, dict[str, object]]:
        """The sidecar's absence is no illness: the worker paces alone."""
        stuck = pipeline.stuck_seconds()
        details: dict[str, object] = {
            "redis": queue.trouble or "ok",
            "sidecar": "away" if limiter.sidecar_unreachable else "ok",
            "consumer": consumer,
            "seconds_since_progress": round(stuck, 1),
        }
        return not queue.trouble and not pipeline.failed and stuck < STUCK_S, details

    try:
        endpoint = HttpEndpoint(http, metrics.registry, health) if http else None
    except OSError as error:
        logger.error("can't listen on --http %s: %s (port 0 takes a free one)", http, error.strerror or error)
        return 1
    with stop_signals(pipeline.done) as signalled:
        limiter.wait_ready(sidecar_wait)
        pipeline.start()
        logger.info(
            "worker %s: queue %s, sidecar %s, %s, %d threads%s",
            consumer,
            queue.keys.frames,
            sidecar,
            detectors[0].name,
            threads,
            f", http://{endpoint.address}" if endpoint else "",
        )
        _watch(pipeline.done, lambda: _totals(metrics, queue), metrics, progress)
        if signalled.is_set():
            logger.info("stopping: %g s at most for what is in work; a second signal ends it at once", grace)
        pipeline.stop(grace)
    limiter.close()
    queue.close()
    if endpoint:
        endpoint.close()
    logger.info("stopped: %s", _totals(metrics, queue))
    return 1 if pipeline.failed else 0


def run(
    *,
    backend: str,
    tiles: int,
    min_score: float,
    models_dir: Path | None,
    hamer_checkpoint: Path | None,
    mano: Path | None,
    device: str,
    mesh: bool,
    **service: Any,
) -> int:
    """Runs a worker with the backend that was chosen; the arguments are those of RunSettings."""
    from worker.backend import BackendError, open_backend

    metrics = Metrics()
    try:
        hands = open_backend(
            backend=backend,
            tiles=tiles,
            min_score=min_score,
            models_dir=models_dir,
            hamer_checkpoint=hamer_checkpoint,
            mano=mano,
            device=device,
            mesh=mesh,
            on_event=lambda event, times: metrics.refinements.labels(event).inc(times),
        )
    except BackendError as error:
        logger.error("%s", error)
        return 1
    try:
        return serve(hands.make_detector, metrics=metrics, **service)
    finally:
        hands.close()


def _watch(done: threading.Event, totals: Callable[[], str], metrics: Metrics, interval: float) -> None:
    """Logs a line about the progress now and then, until done. No line where nothing happened."""
    counted_before, line_before = 0, totals()
    while not done.wait(min(interval, threading.TIMEOUT_MAX)):
        counted, line = metrics.total(metrics.counted), totals()
        if line != line_before:
            logger.info("%s; %.1f counted/s", line, (counted - counted_before) / interval)
        counted_before, line_before = counted, line


def _totals(metrics: Metrics, queue: Queue) -> str:
    counters = (metrics.counted, metrics.skipped, metrics.dead)
    line = "{} counted, {} skipped, {} dead".format(*map(metrics.total, counters))
    return f"{line}, {queue.dropped_unread} dropped from the queue unread" if queue.dropped_unread else line


def main(argv: Sequence[str] | None = None) -> int:
    """Is ``hand-counter run``."""
    from worker.__main__ import main as hand_counter

    return hand_counter(["run", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
