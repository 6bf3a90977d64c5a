"""A server of the contract in this process, which can be told to misbehave, and what its tests need of a client."""

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from support.processes.ports import free_port

from handcounter.client.rate_limiter import RateLimiter
from handcounter.pacing.schedule import Reason, Schedule, decide, next_ts
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import (
    RateLimitServiceServicer,
    add_RateLimitServiceServicer_to_server,
)


class Sidecar(RateLimitServiceServicer):
    """A sidecar with one fps per stream, that can be told to misbehave."""

    def __init__(self, sessions: bool = True) -> None:
        self.port = free_port()
        self.sessions = sessions
        self.fps: dict[str, float] = {}
        self.schedules: dict[str, Schedule | None] = {}
        self.sizes: list[int] = []
        self.reports: list[pb.LeasedDenials] = []
        self.abort: grpc.StatusCode | None = None
        self.answer: dict[str, Any] | None = None
        self.silent = False
        self.server: grpc.Server | None = None
        self._outboxes: list[queue.SimpleQueue[pb.ShouldProcessSessionResponse | None]] = []
        self.start()

    def start(self) -> None:
        """Listens."""
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        add_RateLimitServiceServicer_to_server(self, self.server)
        assert self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self) -> None:
        """Is gone, with all that it knew."""
        if self.server:
            self.end_sessions()
            self.server.stop(None).wait()
        self.schedules.clear()
        self.server = None

    def end_sessions(self) -> None:
        """Ends all sessions, as if all was well."""
        for outbox in self._outboxes:
            outbox.put(None)
        self._outboxes.clear()

    def drop(self, *stream_names: str) -> None:
        """Drops leases; all of them without names."""
        dropped = pb.DroppedLeases(stream_names=stream_names, all_streams=not stream_names)
        for outbox in self._outboxes:
            outbox.put(pb.ShouldProcessSessionResponse(dropped_leases=dropped))

    def ShouldProcessBatch(  # noqa: N802 (the name is the contract's)
        self, request: pb.ShouldProcessBatchRequest, context: grpc.ServicerContext
    ) -> pb.ShouldProcessBatchResponse:
        """Decides."""
        if request.stream_names and self.abort:
            self.sizes.append(len(request.stream_names))
            context.abort(self.abort, "no")
        columns = self._decide(request)
        columns.pop("last_ts", None)
        return pb.ShouldProcessBatchResponse(**columns)

    def ShouldProcessSession(  # noqa: N802
        self, requests: Iterator[pb.ShouldProcessSessionRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ShouldProcessSessionResponse]:
        """Decides."""
        if not self.sessions:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "too old")
        outbox: queue.SimpleQueue[pb.ShouldProcessSessionResponse | None] = queue.SimpleQueue()
        self._outboxes.append(outbox)

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):
                for request in requests:
                    self.reports += request.leased_denials
                    if request.stream_names and self.abort:
                        self.sizes.append(len(request.stream_names))
                        break
                    answers = pb.SessionAnswers(**self._decide(request))
                    if not self.silent:
                        outbox.put(pb.ShouldProcessSessionResponse(answers=answers))
            outbox.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (message := outbox.get()) is not None:
            yield message
        if self.abort:
            context.abort(self.abort, "no")

    def _decide(self, request: Any) -> dict[str, Any]:
        columns: dict[str, list[Any]] = {"should_process": [], "reasons": [], "fps": [], "next_ts": [], "last_ts": []}
        if not request.stream_names:
            return columns
        self.sizes.append(len(request.stream_names))
        if self.answer:
            return dict(self.answer)
        for name, ts in zip(request.stream_names, request.ts, strict=True):
            fps = self.fps.get(name, 1.0)
            reason, schedule = decide(self.schedules.get(name), ts, fps, 0.0)
            self.schedules[name] = schedule
            columns["reasons"].append(int(reason))
            columns["should_process"].append(reason is Reason.ADMITTED)
            columns["fps"].append(fps)
            columns["next_ts"].append(max(0.0, next_ts(schedule, fps)))
            columns["last_ts"].append(schedule.last_ts if schedule else 0.0)
        return columns


@contextlib.contextmanager
def client_of(sidecar: Sidecar, decided: Counter[str], **options: Any) -> Iterator[RateLimiter]:
    """A client with 2 fps of its own; the deadline is far beyond what a busy machine takes."""
    limiter = RateLimiter(
        f"127.0.0.1:{sidecar.port}",
        **{
            "default_fps": 2.0,
            "deadline": 60.0,
            "on_decided": lambda by, number: decided.update({by: number}),
            **options,
        },
    )
    assert limiter.wait_ready(60.0)
    yield limiter
    limiter.close()


def source(fps: float, seconds: float, start: float = 100.0) -> list[float]:
    """The ts of a camera."""
    return [start + i / fps for i in range(round(fps * seconds))]


def frames(name: str, stamps: list[float]) -> list[tuple[str, float]]:
    """Frames of one stream."""
    return [(name, ts) for ts in stamps]


def undisturbed(fps: float, stamps: list[float]) -> list[Reason]:
    """The decisions of one schedule over all frames of a stream."""
    schedule, reasons = None, []
    for ts in stamps:
        reason, schedule = decide(schedule, ts, fps, 0.0)
        reasons.append(reason)
    return reasons
