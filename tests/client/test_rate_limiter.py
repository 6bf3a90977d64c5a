"""The rate limiter against a fake sidecar in this process; tests/integration has real ones."""

import itertools
import logging
import math
import threading
from collections import Counter
from typing import Any, NoReturn

import grpc
import pytest
from support.clients.rate_limiters import OddSidecar, client_of, frames, source, undisturbed
from support.waiting import wait_until

from handcounter.client import RateLimiter, Reason
from handcounter.pacing.bounds import MAX_BATCH
from handcounter.pacing.schedule import Schedule
from handcounter.pacing.times import RealTime, StreamTime


def test_the_decisions_are_the_sidecars(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """One call per batch, in the order of the frames."""
    sidecar.fps = {"fast": 10.0, "paused": 0.0}
    batch = [("fast", 1.0), ("paused", 1.0), ("other", 1.0), ("fast", 1.0), ("fast", 1.05), ("fast", 0.5)]
    assert limiter.decide(batch) == [
        Reason.ADMITTED,
        Reason.PAUSED,
        Reason.ADMITTED,
        Reason.DUPLICATE,
        Reason.TOO_SOON,
        Reason.LATE,
    ]
    assert sidecar.sizes == [6]


def test_no_frames_are_no_call(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """An empty batch makes no request."""
    assert limiter.decide([]) == []
    assert sidecar.sizes == []


def test_large_batches_are_split(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """The contract allows 4096 frames in one call."""
    reasons = limiter.decide([(f"cam{i}", 1.0) for i in range(MAX_BATCH + 10)])
    assert reasons == [Reason.ADMITTED] * (MAX_BATCH + 10)
    assert sidecar.sizes == [MAX_BATCH, 10]


def test_without_a_sidecar_each_stream_goes_on_at_its_last_fps(
    sidecar: OddSidecar, limiter: RateLimiter, decided: Counter[str]
) -> None:
    """The decisions are the sidecar's; paused streams stay paused, unknown ones get the default."""
    sidecar.fps = {"fast": 20.0, "slow": 0.5, "paused": 0.0, "free": math.inf}
    stamps = source(30, 20)
    for name, fps in sidecar.fps.items():
        assert limiter.decide(frames(name, stamps[:300])) == undisturbed(fps, stamps)[:300]
    sidecar.stop()
    wait_until(lambda: not len(limiter._leases))
    for name, fps in sidecar.fps.items():
        assert limiter.decide(frames(name, stamps[300:])) == undisturbed(fps, stamps)[300:], name
    assert limiter.sidecar_unreachable
    assert limiter.decide(frames("unknown", stamps)).count(Reason.ADMITTED) == 40
    assert decided["sidecar"] + decided["lease"] == 1200
    assert decided["local"] == 1200 + 600


def lines(caplog: pytest.LogCaptureFixture, *, sessions: bool = False) -> list[str]:
    """The lines that the rate limiter logged; those about refused sessions only if asked for."""
    own = [record.getMessage() for record in caplog.records if record.name == "handcounter.client.rate_limiter"]
    return [line for line in own if sessions or "refused a session" not in line]


def test_loss_and_return_are_logged_once(
    sidecar: OddSidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """However many batches are decided in between; after the return the sidecar is asked again."""
    caplog.set_level(logging.INFO)
    sidecar.stop()
    for i in range(20):
        limiter.decide([("cam", float(i))])
    assert limiter.sidecar_unreachable
    sidecar.start()
    wait_until(lambda: not limiter.sidecar_unreachable)
    limiter.decide([("cam", 100.0)])
    assert sidecar.sizes == [1]
    assert lines(caplog) == [
        "the sidecar is unreachable, deciding locally at each stream's last known fps",
        "the sidecar is reachable again",
    ]
    lost, back = (vars(record) for record in caplog.records if "reachable" in record.getMessage())
    assert (lost["sidecar"], lost["default_fps"]) == (back["sidecar"], 2.0) == (sidecar.address, 2.0)
    assert lost["error"].startswith("UNAVAILABLE: ")
    assert 0.0 <= back["unreachable_s"] < 120.0


class SlowHandler(logging.Handler):
    """Holds up the line about the return until the test has seen the return, or for a moment."""

    def __init__(self, limiter: RateLimiter) -> None:
        super().__init__(logging.INFO)
        self.limiter = limiter
        self.seen = threading.Event()
        self.found: list[tuple[bool, bool]] = []
        """For each line about the return: whether it still seemed unreachable, and whether the session was ready."""

    def emit(self, record: logging.LogRecord) -> None:
        """Handles a line."""
        if record.getMessage() == "the sidecar is reachable again":
            self.seen.wait(0.3)
            session = self.limiter._session
            self.found.append((self.limiter.sidecar_unreachable, session is not None and session.open))


def test_the_return_and_its_line_are_seen_together(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that sees the line finds the sidecar reachable, and one that finds it reachable has the line."""
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("handcounter.client.rate_limiter")
    with OddSidecar() as sidecar, client_of(sidecar, Counter()) as limiter:
        handler = SlowHandler(limiter)
        logger.addHandler(handler)
        try:
            sidecar.stop()
            limiter.decide([("cam", 1.0)])
            sidecar.start()
            wait_until(lambda: not limiter.sidecar_unreachable)
            handler.seen.set()
            assert handler.found == [(False, True)]
        finally:
            logger.removeHandler(handler)


def test_a_limit_that_changed_before_the_loss_stays_in_force(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """Also if the answer with the new limit was a denial."""
    limiter.decide([("cam", 1.0)])
    sidecar.fps["cam"] = 0.0
    sidecar.revoke("cam")
    wait_until(lambda: not len(limiter._leases))
    assert limiter.decide([("cam", 1.5)]) == [Reason.PAUSED]
    sidecar.stop()
    assert limiter.decide([("cam", 1000.0)]) == [Reason.PAUSED]


def test_a_stream_without_an_admission_here_is_paced_from_its_next_ts(
    sidecar: OddSidecar, limiter: RateLimiter
) -> None:
    """So that a program that restarted admits no frame too many."""
    sidecar.schedules["cam"] = Schedule(StreamTime(10.0), StreamTime(10.0), RealTime(0.0))
    assert limiter.decide([("cam", 10.5)]) == [Reason.TOO_SOON]
    sidecar.stop()
    assert limiter.decide([("cam", 10.9), ("cam", 11.0)]) == [Reason.TOO_SOON, Reason.ADMITTED]


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL])
def test_a_rejected_batch_is_decided_locally_and_logged_once(
    sidecar: OddSidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    """A sidecar that rejects isn't unreachable: it is asked about each batch, until it answers again."""
    limiter.decide([("other", 0.0)])
    caplog.clear()
    sidecar.rejection = code
    for i in range(5):
        assert limiter.decide([("cam", i / 2)]) == [Reason.ADMITTED]
    assert limiter.decide([("cam", 2.1)]) == [Reason.TOO_SOON]
    assert not limiter.sidecar_unreachable
    assert sidecar.sizes == [1] * 7
    assert lines(caplog) == ["the sidecar rejected a batch, deciding such batches locally"]
    assert vars(caplog.records[0])["error"] == f"{code.name}: rejected by the test"
    sidecar.rejection = None
    assert limiter.decide([("cam", 2.2)]) == [Reason.ADMITTED]  # the sidecar never saw the stream


@pytest.mark.parametrize(
    "answer",
    [
        {"should_process": [True]},
        {"reasons": [1], "fps": [1.0], "next_ts": [1.0], "last_ts": [1.0]},
        {"should_process": [True], "reasons": [0], "fps": [1.0], "next_ts": [1.0], "last_ts": [1.0]},
        {"should_process": [True], "reasons": [1], "fps": [math.nan], "next_ts": [1.0], "last_ts": [1.0]},
        {"should_process": [True], "reasons": [1], "fps": [-1.0], "next_ts": [1.0], "last_ts": [1.0]},
        {
            "should_process": [True, True],
            "reasons": [1, 1],
            "fps": [1.0, 1.0],
            "next_ts": [1.0, 1.0],
            "last_ts": [1.0, 1.0],
        },
    ],
)
def test_an_answer_that_is_not_valid_is_a_rejection(
    sidecar: OddSidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture, answer: dict[str, Any]
) -> None:
    """Columns of the wrong length, an unknown reason or an fps that isn't valid: the batch is decided locally."""
    limiter.decide([("other", 0.0)])
    caplog.clear()
    sidecar.odd_answer = answer
    assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
    assert limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON]
    assert ["don't fit the request" in vars(record)["error"] for record in caplog.records] == [True]


def test_in_shadow_mode_every_frame_is_admitted(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """Also where the reason says that it would be denied; no lease denies the next one."""
    sidecar.odd_answer = {"should_process": [True], "reasons": [2], "fps": [1.0], "next_ts": [0.0], "last_ts": [1.0]}
    assert [limiter.decide([("cam", 1.0 + number / 10)]) for number in range(3)] == [[Reason.ADMITTED]] * 3
    assert sidecar.sizes == [1] * 3


def test_odd_values_of_next_ts_do_no_harm(sidecar: OddSidecar, limiter: RateLimiter) -> None:
    """The slot is then the ts of the admitted frame."""
    for odd in (math.nan, math.inf, -math.inf):
        sidecar.odd_answer = {
            "should_process": [True],
            "reasons": [1],
            "fps": [1.0],
            "next_ts": [odd],
            "last_ts": [odd],
        }
        limiter.decide([(str(odd), 1.0)])
    sidecar.stop()
    for odd in (math.nan, math.inf, -math.inf):
        assert limiter.decide([(str(odd), 1.5), (str(odd), 2.0)]) == [Reason.TOO_SOON, Reason.ADMITTED]


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (("", 1.0), "frame 1: stream_name must not be empty"),
        (("x" * 257, 1.0), "frame 1: stream_name must have at most 256"),
        (("cam", math.nan), "frame 1: ts must be a finite number"),
        (("cam", -1.0), "frame 1: ts must not be negative"),
        (("cam", 1.7e12), "frame 1: ts must be seconds, .* are these milliseconds?"),
    ],
)
def test_frames_that_are_not_valid_raise(
    sidecar: OddSidecar, limiter: RateLimiter, frame: tuple[str, float], error: str
) -> None:
    """By the rules of the contract, before anything is asked."""
    with pytest.raises(ValueError, match=error):
        limiter.decide([("good", 1.0), frame])
    assert sidecar.sizes == []
    assert limiter.decide([("good", 1.0)]) == [Reason.ADMITTED]


def test_after_closing_frames_are_decided_locally(
    sidecar: OddSidecar, limiter: RateLimiter, decided: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A program that still has frames gets decisions, and nothing is logged about a sidecar."""
    sidecar.fps["off"] = 0.0
    limiter.decide([("cam", 1.0), ("off", 1.0)])
    caplog.clear()
    limiter.close()
    assert limiter.decide([("cam", 1.1), ("cam", 2.1), ("off", 2.0)]) == [
        Reason.TOO_SOON,
        Reason.ADMITTED,
        Reason.PAUSED,
    ]
    assert decided["local"] == 3
    assert caplog.messages == []


def test_only_so_many_streams_are_remembered(sidecar: OddSidecar, decided: Counter[str]) -> None:
    """Those asked about longest ago are forgotten first, with and without a sidecar."""
    with client_of(sidecar, decided, default_fps=math.inf, max_streams=10) as limiter:
        sidecar.fps = {f"cam{i}": 0.0 for i in range(100)}
        limiter.decide([(f"cam{i}", 1.0) for i in range(100)])
        assert limiter._local.stream_names == [f"cam{i}" for i in range(90, 100)]
        assert len(limiter._leases) <= 10
        sidecar.stop()
        wait_until(lambda: not len(limiter._leases))
        assert limiter.decide([("cam99", 2.0), ("cam0", 2.0)]) == [Reason.PAUSED, Reason.ADMITTED]
        limiter.decide([(f"another{i}", 1.0) for i in range(20)])
        assert len(limiter._local.stream_names) == 10


def test_a_refused_session_is_tried_again(
    sidecar: OddSidecar, decided: Counter[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then each batch is a call of its own; this is logged once."""
    monkeypatch.setattr("handcounter.client.rate_limiter.SESSION_RETRY_S", 0.05)
    sidecar.sessions = False
    with client_of(sidecar, decided) as limiter:
        for i in range(5):
            assert limiter.decide([("cam", float(i))]) == [Reason.ADMITTED]
        assert lines(caplog, sessions=True) == ["the sidecar refused a session, making a call for each batch"]
        assert vars(caplog.records[0])["error"] == "UNIMPLEMENTED: this fake sidecar has no sessions"
        sidecar.sessions = True
        ts = itertools.count(100)
        wait_until(
            lambda: limiter.decide([("cam", float(next(ts)))]) == [Reason.ADMITTED] and len(limiter._leases) == 1
        )
        assert not limiter.sidecar_unreachable


def test_a_sidecar_that_does_not_answer_in_time_is_unreachable(sidecar: OddSidecar, decided: Counter[str]) -> None:
    """One batch waits for the deadline and is decided locally, as are all after it, until the sidecar answers."""
    with client_of(sidecar, decided, deadline=0.3) as limiter:
        limiter.decide([("other", 1.0)])
        sidecar.silent = True
        assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
        assert limiter.sidecar_unreachable
        assert limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON]
        sidecar.silent = False
        wait_until(lambda: not limiter.sidecar_unreachable)


def test_waiting_for_a_sidecar_that_never_comes_ends() -> None:
    """wait_ready says that there is none; afterwards, and after closing, frames are decided all the same."""
    with RateLimiter("127.0.0.1:1", default_fps=1.0) as limiter:
        assert not limiter.wait_ready(0.05)
        assert limiter.decide([("cam", 1.0), ("cam", 1.5)]) == [Reason.ADMITTED, Reason.TOO_SOON]
    assert not limiter.wait_ready(0.05)


def test_a_channel_that_is_closed_during_a_call_is_no_fault(
    sidecar: OddSidecar, limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPC's ValueError for a closed channel means a local decision if the limiter was closed, else it is raised."""

    def closed(*_: object) -> NoReturn:
        raise ValueError("Cannot invoke RPC on closed channel!")

    monkeypatch.setattr(limiter, "_call", closed)
    monkeypatch.setattr(limiter, "_open_session", closed)
    with pytest.raises(ValueError, match="closed channel"):
        limiter.decide([("cam", 1.0)])
    monkeypatch.setattr(limiter, "_open_session", lambda: limiter.close() or closed())
    assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
