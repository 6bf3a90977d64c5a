"""Frames of streams whose limit is unknown, and limits that are asked for without a frame."""

import math
from collections import Counter

import grpc
import pytest
from support.clients.rate_limiters import OddSidecar
from support.waiting import wait_until

from handcounter.client import RateLimiter, Reason


def test_a_stream_whose_limit_nobody_told_may_be_left_undecided(
    sidecar: OddSidecar, limiter: RateLimiter, decided: Counter[str]
) -> None:
    """It may be paused. Streams whose limit is known are decided, and the others as soon as the sidecar is back."""
    sidecar.fps = {"known": 1.0, "off": 0.0, "paused": 0.0}
    assert limiter.decide_known([("known", 1.0), ("off", 1.0)]) == [Reason.ADMITTED, Reason.PAUSED]
    sidecar.stop()
    wait_until(lambda: not len(limiter._leases))
    batch = [("paused", 1.0), ("known", 1.5), ("new", 1.0), ("known", 2.0), ("off", 2.0)]
    assert limiter.decide_known(batch) == [None, Reason.TOO_SOON, None, Reason.ADMITTED, Reason.PAUSED]
    assert limiter.sidecar_unreachable
    assert decided["local"] == 3
    assert (limiter.told_fps("known"), limiter.told_fps("paused")) == (1.0, None)
    assert limiter.decide([("paused", 1.0)]) == [Reason.ADMITTED]  # at the default, if so asked for,
    assert limiter.decide_known([("paused", 9.0)]) == [None]  # which doesn't count as told
    sidecar.start()
    wait_until(lambda: not limiter.sidecar_unreachable)
    assert limiter.decide_known([("paused", 9.0), ("new", 1.0)]) == [Reason.PAUSED, Reason.ADMITTED]


@pytest.mark.parametrize("sessions", [True, False])
def test_a_stream_whose_limit_the_sidecar_never_read_may_be_left_undecided(
    sidecar: OddSidecar, limiter: RateLimiter, decided: Counter[str], sessions: bool
) -> None:
    """A sidecar that was started without Redis knows no limits. Those that it told before that restart hold."""
    sidecar.sessions = sessions
    sidecar.fps = {"known": 2.0, "off": 0.0}
    assert limiter.decide_known([("known", 1.0), ("off", 1.0)]) == [Reason.ADMITTED, Reason.PAUSED]
    sidecar.fps, sidecar.unread = {}, {"known", "off", "new"}
    sidecar.revoke()
    wait_until(lambda: not len(limiter._leases))
    batch = [("new", 1.0), ("known", 1.5), ("off", 1.5), ("read", 1.0), ("known", 1.6)]
    before = decided.copy()
    assert limiter.decide_known(batch) == [None, Reason.ADMITTED, Reason.PAUSED, Reason.ADMITTED, Reason.TOO_SOON]
    assert decided - before == {"sidecar": 1, "local": 3}
    assert limiter.limits(["new", "known", "off", "read"]) == [None, 2.0, 0.0, 1.0]
    assert limiter.decide([("off", 9.0), ("new", 1.0)]) == [Reason.ADMITTED] * 2  # at its default, if so asked for,
    assert limiter.told_fps("new") is None  # which doesn't count as told
    assert limiter.told_fps("off") == 0.0
    sidecar.unread = set()
    assert limiter.decide_known([("new", 9.0)]) == [Reason.ADMITTED]
    assert limiter.told_fps("new") == 1.0


def test_an_undecided_frame_that_nobody_asked_for_is_decided_locally(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """Whatever a foreign server answers, each frame of ``decide`` has a reason."""
    sidecar.odd_answer = {"should_process": [False], "reasons": [0], "fps": [1.0], "next_ts": [0.0], "last_ts": [0.0]}
    assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
    sidecar.odd_answer = {**sidecar.odd_answer, "unread_limits": [0]}
    assert limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON]


@pytest.mark.parametrize("rejection", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT])
def test_a_rejected_batch_may_be_left_undecided(
    sidecar: OddSidecar, limiter: RateLimiter, rejection: grpc.StatusCode
) -> None:
    """A server that only rejects doesn't tell limits either."""
    sidecar.rejection = rejection
    assert limiter.decide_known([("cam", 1.0)]) == [None]
    assert not limiter.sidecar_unreachable
    sidecar.rejection = None
    assert limiter.decide_known([("cam", 1.0)]) == [Reason.ADMITTED]


def test_limits_are_asked_for_without_deciding_a_frame(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """As they are now. Without the sidecar they are those that it told last."""
    sidecar.fps = {"cam": 0.5, "off": 0.0, "free": math.inf}
    assert limiter.limits(["cam", "off", "free", "other"]) == [0.5, 0.0, math.inf, 1.0]
    assert sidecar.requests == []
    assert limiter.decide([("cam", 5.0)]) == [Reason.ADMITTED]
    sidecar.fps["cam"] = 0.0
    assert limiter.limits(["cam"]) == [0.0]
    sidecar.stop()
    wait_until(lambda: not len(limiter._leases))
    assert limiter.decide_known([("new", 1.0)]) == [None]
    assert limiter.limits(["cam", "off", "new"]) == [0.0, 0.0, None]
    limiter.close()
    assert limiter.limits(["free"]) == [math.inf]


def test_limits_in_shadow_mode_pause_nothing(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """Every frame may be processed; without the sidecar the stream is paused all the same."""
    sidecar.odd_answer = {"should_process": [True], "reasons": [3], "fps": [0.0], "next_ts": [0.0], "last_ts": [0.0]}
    assert limiter.limits(["off"]) == [math.inf]
    assert limiter.told_fps("off") == 0.0


def test_pauses_are_asked_for_without_a_lease_only(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """A sidecar revokes a lease at a pause."""
    sidecar.fps = {"off": 0.0}
    assert limiter.decide([("cam", 5.0), ("off", 5.0)]) == [Reason.ADMITTED, Reason.PAUSED]
    assert limiter.which_are_paused(["cam", "off", "new"]) == {"off"}
    sidecar.fps = {"cam": 0.0}
    if sidecar.sessions:
        assert limiter.which_are_paused(["cam", "off"]) == {"off"}
        sidecar.revoke()
        wait_until(lambda: not len(limiter._leases))
    assert limiter.which_are_paused(["cam", "off"]) == {"cam"}
    sidecar.stop()
    assert limiter.which_are_paused(["cam", "new"]) == {"cam"}
