"""Shared by the tests of the rate limiter: a client of a fake sidecar, the frames of a camera, and the expected decisions."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

from handcounter.client import RateLimiter
from handcounter.client.testing import FakeSidecar
from handcounter.pacing.bounds import Frames
from handcounter.pacing.schedule import Reason, decide
from handcounter.pacing.times import RealTime, StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb


class OddSidecar(FakeSidecar):
    """A fake sidecar with leases, whose answers a test can replace."""

    def __init__(self, *, sessions: bool = True) -> None:
        super().__init__(sessions=sessions, leases=True)
        self.odd_answer: dict[str, Any] | None = None
        """The columns of each answer."""

    @property
    def sizes(self) -> list[int]:
        """Returns how many frames each request had."""
        return [len(frames) for frames in self.requests]

    def answers(self, frames: Frames) -> pb.SessionAnswers:
        """Returns the test's answer, or else the fake sidecar's."""
        return super().answers(frames) if self.odd_answer is None else pb.SessionAnswers(**self.odd_answer)


@contextlib.contextmanager
def client_of(sidecar: FakeSidecar, decided: Counter[str], **options: Any) -> Iterator[RateLimiter]:
    """Yields a client with a default of 2 fps and a deadline far above what a busy machine needs."""
    limiter = RateLimiter(
        sidecar.address,
        **{
            "default_fps": 2.0,
            "deadline": 60.0,
            "on_decided": lambda by, number: decided.update({by: number}),
            **options,
        },
    )
    assert limiter.wait_ready(60.0)
    with limiter:
        yield limiter


def source(fps: float, seconds: float, start: float = 100.0) -> list[float]:
    """Returns the ts of a camera's frames."""
    return [start + i / fps for i in range(round(fps * seconds))]


def frames(name: str, stamps: Sequence[float]) -> list[tuple[str, float]]:
    """Returns frames of one stream."""
    return [(name, ts) for ts in stamps]


def undisturbed(fps: float, stamps: Sequence[float]) -> list[Reason]:
    """Returns the decisions of one schedule over all frames of a stream."""
    schedule, reasons = None, []
    for ts in cast(Sequence[StreamTime], stamps):
        reason, schedule = decide(schedule, ts, fps, RealTime(0.0))
        reasons.append(reason)
    return reasons
