"""The frame worker: ``hand-counter run``, or ``python -m worker.hand_counter --fps 1``.

:func:`process_frame_callback` is what happens to one frame: the limiter is asked, and an admitted frame's hands are
counted. :func:`serve` does the same for the frames of the queue, many at a time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import cv2

from handcounter.client import RateLimiter, tls_credentials
from handcounter.pacing.schedule import Reason, stream_name_error, ts_error
from process.http import HttpEndpoint
from worker.backend import Backend, BackendError, open_backend
from worker.ending import end_process
from worker.frame_counter import count_hands
from worker.group_health import Member
from worker.metrics import Metrics
from worker.picture_header import MAX_PIXELS
from worker.pipeline.pipeline import Pipeline
from worker.process_group import run_processes
from worker.process_pages import ProcessPages
from worker.queue.connections import Connections
from worker.queue.frame import SKIP_OF_REASON, SkipReason
from worker.queue.open_queue import open_queue
from worker.sinks.feeds import Feeds
from worker.sinks.open_sinks import open_feeds
from worker.sinks.sink_metrics import SinkMetrics
from worker.status import Health, WorkerStatus
from worker.stop_signals import stop_signals

if TYPE_CHECKING:
    from worker.hands.detection import HandDetector
    from worker.options import HandsOptions, QueueOptions, RunOptions, SidecarOptions
    from worker.picture import Picture
    from worker.pipeline.limiter import FrameLimiter
    from worker.queue.partitioned import WorkerQueue
    from worker.results import FrameResult

logger = logging.getLogger(__name__)

STOP_WITHIN_S = 1.0
"""How long a stop may have to wait for the search for a sidecar at the start."""

LAST_RESULTS_S = 2.0
"""How long a stop waits for sinks that don't take the last results."""


CLOSES_WITHIN_S: Final = 1.0
"""How long a stop waits for the detector. The frames that it still computes have been released to other workers."""


def process_frame_callback(
    stream_name: str,
    ts: float,
    picture: bytes | Picture,
    *,
    detector: HandDetector,
    limiter: FrameLimiter,
    max_pixels: int = MAX_PIXELS,
) -> FrameResult | SkipReason:
    """Counts the hands of one frame, if the limiter admits it.

    With a sidecar running::

        limiter = RateLimiter("127.0.0.1:50051", default_fps=1.0)
        result = process_frame_callback("cam1", time.time(), jpeg, detector=detector, limiter=limiter)
        print(result if isinstance(result, SkipReason) else result.hand_count)

    Args:
        stream_name: the camera stream, 1 to 256 characters.
        ts: capture time, seconds by the frame's own clock.
        picture: a JPEG or PNG, or HxWx3 uint8 in BGR. A denied frame isn't decoded.
        detector: finds the hands; used by one thread at a time.
        limiter: decides whether the frame is counted.
        max_pixels: an encoded picture with more pixels isn't decoded.

    Returns:
        The hands, or why the frame was skipped.

    Raises:
        ValueError: the name or the ts isn't valid; the limiter isn't asked.
        PictureError: the picture can't be decoded.
    """
    if error := stream_name_error(stream_name) or ts_error(ts):
        raise ValueError(error)
    (decision,) = limiter.decide([(stream_name, ts)])
    if decision is not Reason.ADMITTED:
        return SKIP_OF_REASON[decision]
    return count_hands(stream_name, ts, picture, detector, max_pixels)


def serve(
    make_detector: Callable[[], HandDetector],
    options: RunOptions,
    metrics: Metrics | None = None,
    report_address: Callable[[str], None] = lambda _address: None,
) -> int:
    """Runs a worker until a signal stops it, or until the queue is drained if that is asked for.

    Args:
        make_detector: called once per thread, after /metrics and /healthz are open, so that loading a model may take long.
        options: everything else.
        metrics: where the worker counts what it does; None: its own.
        report_address: called with the address of /metrics and /healthz once they are open, and with an empty one before they
            close.

    Returns:
        The exit code: 0 for a clean stop, 1 if the worker failed.

    Raises:
        BackendError: make_detector raised it.
    """
    metrics = metrics or Metrics()
    health = Health()
    try:
        endpoint = HttpEndpoint(options.http, metrics.registry, health, health.alive) if options.http else None
    except OSError as error:
        return _cannot_listen(options.http, error)
    try:
        if endpoint:
            report_address(endpoint.address)
        feeds = _open_feeds(options, metrics)
        if feeds is None:
            return 1
        return _serve(make_detector, options, metrics, health, endpoint.address if endpoint else "", feeds)
    finally:
        if endpoint:
            report_address("")
            endpoint.close()


def _serve(
    make_detector: Callable[[], HandDetector],
    options: RunOptions,
    metrics: Metrics,
    health: Health,
    http: str,
    feeds: Feeds,
) -> int:
    """Does the work of `serve` while the endpoint at the address `http` is open."""
    if options.threads > 1 or options.in_group:
        cv2.setNumThreads(1)  # frames are what runs in parallel
    detectors = [make_detector() for _ in range(options.threads)]
    metrics.backend.labels(detectors[0].name).set(1)
    connections = Connections(options.queue.redis, options.queue.access)
    queue = _make_queue(options.queue, connections, metrics, drain=options.pipeline.drain)
    limiter = _make_limiter(options.sidecar, metrics)
    pipeline = Pipeline(queue, limiter, detectors, metrics, options.pipeline, feeds.put)
    status = WorkerStatus(queue, limiter, pipeline, metrics)
    with stop_signals(pipeline.done, patient=options.in_group) as signalled:
        health.follow(status)
        _wait_for_sidecar(limiter, options.sidecar.start_wait, pipeline.done)
        feeds.start()
        pipeline.start()
        about: dict[str, object] = {
            "consumer": queue.consumer,
            **_about_queue(options.queue),
            "sidecar": options.sidecar.address,
            "backend": detectors[0].name,
            "threads": options.threads,
            "http": http,
        }
        logger.info("the worker has started", extra=about)
        status.log_progress(pipeline.done, options.progress)
        if signalled.is_set():
            logger.info("stopping; a second signal exits at once", extra={"grace_seconds": options.grace})
        pipeline.stop(options.grace)
        feeds.close(LAST_RESULTS_S)
    limiter.close()
    queue.close()
    connections.close()
    logger.info("the worker has stopped", extra=status.totals())
    return 1 if pipeline.failed else 0


def _open_feeds(options: RunOptions, metrics: Metrics) -> Feeds | None:
    """Builds the sinks; logs what is wrong with them and returns None if they can't be used."""
    sinks = options.sinks
    try:
        feeds = open_feeds(
            sinks.specs, hmac_key=sinks.hmac_key, worker=options.queue.consumer, queue=options.queue.partitions.prefix
        )
    except ValueError as error:
        logger.error("a sink isn't valid", extra={"error": str(error)})
        return None
    except ModuleNotFoundError as error:
        about = {"package": error.name, "hint": "pip install 'hamer-hand-counter[mqtt,sql]'"}
        logger.error("a sink needs a package that isn't installed", extra=about)
        return None
    metrics.registry.register(SinkMetrics(feeds))
    return feeds


def _make_queue(options: QueueOptions, connections: Connections, metrics: Metrics, *, drain: bool) -> WorkerQueue:
    read = options.share.partitions(options.partitions.number)
    metrics.partitions.set(options.partitions.number)
    metrics.partitions_read.set(len(read))
    return open_queue(
        connections,
        options.partitions,
        read,
        options.consumer,
        counts_maxlen=options.counts_maxlen,
        dead_maxlen=options.dead_maxlen,
        keep_payloads=options.keep_payloads,
        on_dead=lambda reason, number: metrics.dead.labels(reason.value).inc(number),
        drain=drain,
    )


def _about_queue(options: QueueOptions) -> dict[str, object]:
    """Returns what the first line of the log says about the queue."""
    partitions = options.partitions
    if partitions.number == 1:
        return {"queue": partitions.only.frames}
    read = options.share.partitions(partitions.number)
    return {"queue": partitions.only.frames, "partitions": partitions.number, "read": ",".join(map(str, read))}


def _make_limiter(options: SidecarOptions, metrics: Metrics) -> RateLimiter:
    return RateLimiter(
        options.address,
        default_fps=options.default_fps,
        deadline=options.decision_timeout,
        on_decided=lambda by, number: metrics.decisions.labels(by).inc(number),
        credentials=tls_credentials(options.ca, options.certificate, options.key) if options.ca else None,
    )


def _wait_for_sidecar(limiter: RateLimiter, seconds: float, stop: threading.Event) -> None:
    deadline = time.monotonic() + seconds
    while not stop.is_set() and (left := deadline - time.monotonic()) > 0.0:
        if limiter.wait_ready(min(left, STOP_WITHIN_S)):
            return


def _cannot_listen(address: str, error: OSError) -> int:
    reason = error.strerror or str(error)
    logger.error("can't listen on --http; port 0 takes a free one", extra={"address": address, "error": reason})
    return 1


class _AddressError(OSError):
    """The pages of several processes can't be served at --http."""


def in_processes(options: RunOptions, run_one: Callable[[RunOptions, Callable[[str], None]], int]) -> int:
    """Runs a worker in as many processes as are asked for, whose pages are one; in this one, if that is all.

    Args:
        options: of the worker.
        run_one: does the work of one process, and calls the second argument as `serve` does.

    Returns:
        The exit code.
    """
    if options.processes == 1:
        return run_one(options, lambda _address: None)

    @contextlib.contextmanager
    def serve_pages(members: Callable[[], Sequence[Member]]) -> Iterator[None]:
        pages = ProcessPages(members)
        with contextlib.ExitStack() as opened:
            if options.http:
                try:
                    endpoint = HttpEndpoint(options.http, pages.registry, pages.health, pages.alive)
                except OSError as error:
                    raise _AddressError(*error.args) from error
                opened.callback(endpoint.close)
                logger.info("several processes", extra={"processes": options.processes, "http": endpoint.address})
            yield

    try:
        return run_processes(
            options.processes,
            lambda number, report: run_one(options.of_process(number), report),
            serve_pages,
            grace=options.grace,
            drain=options.pipeline.drain,
        )
    except _AddressError as error:
        return _cannot_listen(options.http, error)
    except OSError as error:
        logger.error("the processes can't be started", extra={"processes": options.processes, "error": str(error)})
        return 1


def run(hands: HandsOptions, options: RunOptions) -> int:
    """Runs a worker with the backend of these options: what ``hand-counter run`` does. Returns the exit code."""
    return in_processes(options, lambda own, report: _run_one(hands, own, report))


def _run_one(hands: HandsOptions, options: RunOptions, report_address: Callable[[str], None]) -> int:
    metrics = Metrics()
    opened: list[Backend] = []

    @functools.cache
    def backend() -> Backend:
        opened.append(open_backend(hands, lambda event, times: metrics.refinements.labels(event).inc(times)))
        return opened[0]

    try:
        code = serve(lambda: backend().make_detector(), options, metrics, report_address)
    except BackendError as error:
        logger.error("%s", error)
        code = 1
    return code if all(map(_is_closed, opened)) else end_process(code)


def _is_closed(backend: Backend) -> bool:
    """Closes the backend, which computes what it still has; returns False if it takes long, as with a GPU that hangs."""
    closing = threading.Thread(target=backend.close, name="close", daemon=True)
    closing.start()
    closing.join(CLOSES_WITHIN_S)
    if closing.is_alive():
        logger.warning("the detector doesn't end; exiting without it")
    return not closing.is_alive()


def main(argv: Sequence[str] | None = None) -> int:
    """Does the same as ``hand-counter run``."""
    from worker.__main__ import main as hand_counter

    return hand_counter(["run", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
