"""The sidecar's client, against a server of the contract in this process; real sidecars are in tests/integration."""

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from support.clients.fake_sidecar import Sidecar, client_of, frames, source, undisturbed
from support.waiting import wait_until

from handcounter.client.rate_limiter import MAX_BATCH, RateLimiter
from handcounter.pacing.schedule import Reason, Schedule


@pytest.fixture(params=["sessions", "batches"])
def sidecar(request: pytest.FixtureRequest) -> Iterator[Sidecar]:
    """A sidecar that runs, with sessions and without."""
    server = Sidecar(request.param == "sessions")
    yield server
    server.stop()


@pytest.fixture
def decided() -> Counter[str]:
    """Who decided how many frames."""
    return Counter()


@pytest.fixture
def limiter(sidecar: Sidecar, decided: Counter[str]) -> Iterator[RateLimiter]:
    """Its client."""
    with client_of(sidecar, decided) as limiter:
        yield limiter


def test_the_sidecars_answers_are_passed_on(sidecar: Sidecar, limiter: RateLimiter) -> None:
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


def test_no_frames_are_no_call(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """An empty batch asks nothing."""
    assert limiter.decide([]) == []
    assert sidecar.sizes == []


def test_large_batches_are_split(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """The contract allows 4096 frames in one call."""
    reasons = limiter.decide([(f"cam{i}", 1.0) for i in range(MAX_BATCH + 10)])
    assert reasons == [Reason.ADMITTED] * (MAX_BATCH + 10)
    assert sidecar.sizes == [MAX_BATCH, 10]


def test_without_a_sidecar_each_stream_goes_on_at_its_last_fps(
    sidecar: Sidecar, limiter: RateLimiter, decided: Counter[str]
) -> None:
    """The admissions are those that the sidecar would have made; the paused stay paused; unknown ones get --fps."""
    sidecar.fps = {"fast": 20.0, "slow": 0.5, "paused": 0.0, "free": math.inf}
    stamps = source(30, 20)
    for name, fps in sidecar.fps.items():
        assert limiter.decide(frames(name, stamps[:300])) == undisturbed(fps, stamps)[:300]
    sidecar.stop()
    wait_until(lambda: not len(limiter._leases))
    for name, fps in sidecar.fps.items():
        assert limiter.decide(frames(name, stamps[300:])) == undisturbed(fps, stamps)[300:], name
    assert limiter.away
    assert limiter.decide(frames("unknown", stamps)).count(Reason.ADMITTED) == 40
    assert decided["sidecar"] + decided["lease"] == 1200
    assert decided["local"] == 1200 + 600


def test_loss_and_return_are_said_once(
    sidecar: Sidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """However many batches come meanwhile; and after the return the sidecar is asked again."""
    caplog.set_level(logging.INFO)
    sidecar.stop()
    for i in range(20):
        limiter.decide([("cam", float(i))])
    assert limiter.away
    sidecar.start()
    wait_until(lambda: not limiter.away)
    limiter.decide([("cam", 100.0)])
    assert sidecar.sizes == [1]
    away, back = (message for message in caplog.messages if "refuses a session" not in message)
    assert "is away: pacing here at each stream's last fps, else 2" in away
    assert "is back after" in back


def test_a_change_of_fps_before_the_loss_is_what_counts(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """The last told fps is in force, even where it was told with a denial."""
    limiter.decide([("cam", 1.0)])
    sidecar.fps["cam"] = 0.0
    sidecar.drop("cam")
    wait_until(lambda: not len(limiter._leases))
    assert limiter.decide([("cam", 1.5)]) == [Reason.PAUSED]
    sidecar.stop()
    assert limiter.decide([("cam", 1000.0)]) == [Reason.PAUSED]


def test_a_stream_that_was_only_ever_denied_is_paced_from_its_next_ts(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """A worker that was restarted doesn't give such a stream a frame for nothing."""
    sidecar.schedules["cam"] = Schedule(10.0, 10.0, 0.0)
    assert limiter.decide([("cam", 10.5)]) == [Reason.TOO_SOON]
    sidecar.stop()
    assert limiter.decide([("cam", 10.9), ("cam", 11.0)]) == [Reason.TOO_SOON, Reason.ADMITTED]


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL])
def test_a_refusal_is_paced_here_and_said_once(
    sidecar: Sidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    """A sidecar that refuses isn't away: each batch asks it once, and it is taken up as soon as it answers."""
    limiter.decide([("other", 0.0)])
    caplog.clear()
    sidecar.abort = code
    for i in range(5):
        assert limiter.decide([("cam", i / 2)]) == [Reason.ADMITTED]
    assert limiter.decide([("cam", 2.1)]) == [Reason.TOO_SOON]
    assert not limiter.away
    assert sidecar.sizes == [1] * 7
    (message,) = (record.getMessage() for record in caplog.records if record.name == "handcounter.client.rate_limiter")
    assert f"{code.name}: no" in message
    sidecar.abort = None
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
def test_an_answer_that_makes_no_sense_is_a_refusal(
    sidecar: Sidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture, answer: dict[str, Any]
) -> None:
    """Columns that don't fit, a reason or an fps that is none: paced here."""
    limiter.decide([("other", 0.0)])
    caplog.clear()
    sidecar.answer = answer
    assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
    assert limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON]
    assert ["doesn't fit" in message for message in caplog.messages] == [True]


def test_what_a_sidecar_in_the_shadow_lets_through_is_processed(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """Yes is yes, also where the reason tells that it would be no; no lease denies it later."""
    sidecar.answer = {"should_process": [True], "reasons": [2], "fps": [1.0], "next_ts": [0.0], "last_ts": [1.0]}
    assert [limiter.decide([("cam", 1.0 + number / 10)]) for number in range(3)] == [[Reason.ADMITTED]] * 3
    assert sidecar.sizes == [1] * 3


def test_odd_values_of_next_ts_do_no_harm(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """The slot is then the ts of the admission."""
    for odd in (math.nan, math.inf, -math.inf):
        sidecar.answer = {"should_process": [True], "reasons": [1], "fps": [1.0], "next_ts": [odd], "last_ts": [odd]}
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
def test_frames_that_the_contract_refuses_are_refused_here(
    sidecar: Sidecar, limiter: RateLimiter, frame: tuple[str, float], error: str
) -> None:
    """Whether the sidecar is there or not: pacing them here would admit nonsense."""
    with pytest.raises(ValueError, match=error):
        limiter.decide([("good", 1.0), frame])
    assert sidecar.sizes == []
    assert limiter.decide([("good", 1.0)]) == [Reason.ADMITTED]


def test_after_the_end_frames_are_paced_here(
    sidecar: Sidecar, limiter: RateLimiter, decided: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is still at work when the client is closed gets answers, and nothing is logged about a sidecar."""
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


def test_only_so_many_streams_are_remembered(sidecar: Sidecar, decided: Counter[str]) -> None:
    """The longest unasked are forgotten first, with and without a sidecar."""
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


def test_a_refused_session_is_asked_for_again(
    sidecar: Sidecar, decided: Counter[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile each batch is a call; it is said once."""
    monkeypatch.setattr("handcounter.client.rate_limiter.SESSION_RETRY_S", 0.05)
    sidecar.sessions = False
    with client_of(sidecar, decided) as limiter:
        for i in range(5):
            assert limiter.decide([("cam", float(i))]) == [Reason.ADMITTED]
        assert [message for message in caplog.messages if "refuses a session" in message] == caplog.messages
        assert len(caplog.messages) == 1
        sidecar.sessions = True
        ts = itertools.count(100)
        wait_until(
            lambda: limiter.decide([("cam", float(next(ts)))]) == [Reason.ADMITTED] and len(limiter._leases) == 1
        )
        assert not limiter.away
