"""The sidecar's client, against a server of the contract in this process; real sidecars are in tests/integration."""

import contextlib
import itertools
import logging
import math
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from servers import free_port
from worker_helpers import eventually

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import (
    RateLimitServiceServicer,
    add_RateLimitServiceServicer_to_server,
)
from sidecar.schedule import Reason, Schedule, decide, next_ts
from worker.rate_limit import MAX_BATCH, RateLimiter


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


@pytest.fixture(params=["sessions", "batches"])
def sidecar(request: pytest.FixtureRequest) -> Iterator[Sidecar]:
    """A sidecar that runs, with sessions and without."""
    server = Sidecar(request.param == "sessions")
    yield server
    server.stop()


@pytest.fixture
def modern() -> Iterator[Sidecar]:
    """A sidecar with sessions."""
    server = Sidecar()
    yield server
    server.stop()


@pytest.fixture
def decided() -> Counter[str]:
    """Who decided how many frames."""
    return Counter()


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


@pytest.fixture
def limiter(sidecar: Sidecar, decided: Counter[str]) -> Iterator[RateLimiter]:
    """Its client."""
    with client_of(sidecar, decided) as limiter:
        yield limiter


@pytest.fixture
def leasing(modern: Sidecar, decided: Counter[str]) -> Iterator[RateLimiter]:
    """The client of a sidecar with sessions."""
    with client_of(modern, decided) as limiter:
        yield limiter


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
    eventually(lambda: not limiter.away)
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
    eventually(lambda: not len(limiter._leases))
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
    (message,) = (record.getMessage() for record in caplog.records if record.name == "worker.rate_limit")
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


def test_only_so_many_streams_are_remembered(sidecar: Sidecar, decided: Counter[str]) -> None:
    """The longest unasked are forgotten first, with and without a sidecar."""
    with client_of(sidecar, decided, default_fps=math.inf, max_streams=10) as limiter:
        sidecar.fps = {f"cam{i}": 0.0 for i in range(100)}
        limiter.decide([(f"cam{i}", 1.0) for i in range(100)])
        assert limiter._local.stream_names == [f"cam{i}" for i in range(90, 100)]
        assert len(limiter._leases) <= 10
        sidecar.stop()
        eventually(lambda: not len(limiter._leases))
        assert limiter.decide([("cam99", 2.0), ("cam0", 2.0)]) == [Reason.PAUSED, Reason.ADMITTED]
        limiter.decide([(f"another{i}", 1.0) for i in range(20)])
        assert len(limiter._local.stream_names) == 10


# Sessions and leases


def test_frames_under_a_lease_cost_no_question(modern: Sidecar, leasing: RateLimiter, decided: Counter[str]) -> None:
    """The decisions are those of one schedule; of the frames of a camera only what is due is asked about."""
    modern.fps["cam"] = 5.0
    stamps = source(30, 10)
    assert [leasing.decide([("cam", ts)])[0] for ts in stamps] == undisturbed(5.0, stamps)
    assert modern.sizes == [1] * 50
    assert decided == {"sidecar": 50, "lease": 250}


def test_a_batch_asks_about_the_rest(modern: Sidecar, leasing: RateLimiter) -> None:
    """Frames are answered in their order; behind a frame that is asked about, its stream's others are too."""
    leasing.decide([("a", 10.0), ("b", 10.0)])
    batch = [("a", 10.5), ("b", 10.5), ("a", 11.0), ("b", 10.0), ("a", 10.6), ("b", 9.0)]
    expected = [
        Reason.TOO_SOON,
        Reason.TOO_SOON,
        Reason.ADMITTED,
        Reason.DUPLICATE,
        Reason.LATE,
        Reason.LATE,
    ]
    assert leasing.decide(batch) == expected
    assert modern.sizes == [2, 2]


def test_a_drop_ends_the_lease_though_nothing_was_asked(modern: Sidecar, leasing: RateLimiter) -> None:
    """Of the named streams, or of all."""
    modern.fps.update(a=0.0, b=0.0)
    leasing.decide([("a", 1.0), ("b", 1.0), ("c", 1.0)])
    modern.fps.update(a=1.0, b=1.0)
    modern.drop("a")
    eventually(lambda: leasing.decide([("a", 2.0)]) == [Reason.ADMITTED])
    assert leasing.decide([("b", 2.0)]) == [Reason.PAUSED]
    modern.drop()
    eventually(lambda: leasing.decide([("b", 2.0)]) == [Reason.ADMITTED])
    assert modern.sizes == [3, 1, 1]


def test_a_lost_session_drops_all_leases(modern: Sidecar, leasing: RateLimiter) -> None:
    """Another is opened with the next question; as long as the sidecar is there nothing is decided here."""
    leasing.decide([("a", 1.0)])
    modern.fps["a"] = 3.0
    modern.end_sessions()
    eventually(lambda: leasing.decide([("a", 1.5)]) == [Reason.ADMITTED])
    assert not leasing.away
    assert leasing.decide([("a", 1.55)]) == [Reason.TOO_SOON]
    assert modern.sizes == [1, 1]


def test_what_leases_denied_is_reported(modern: Sidecar, leasing: RateLimiter) -> None:
    """By reason, within a second, without a question; the rest when the client is closed."""
    modern.fps["off"] = 0.0
    leasing.decide([("cam", 10.0), ("off", 1.0)])
    leasing.decide([("cam", 10.5), ("cam", 10.0), ("cam", 9.0), ("cam", 10.6), ("off", 2.0), ("off", 3.0)])
    eventually(lambda: len(modern.reports) == 2)
    cam, off = sorted(modern.reports, key=lambda report: report.stream_name)
    assert (cam.too_soon, cam.duplicate, cam.late, cam.paused) == (2, 1, 1, 0)
    assert (cam.last_ts, cam.last_reason) == (10.6, pb.REASON_TOO_SOON)
    assert 0.0 <= cam.age_seconds < 60.0
    assert (off.paused, off.last_ts, off.last_reason) == (2, 3.0, pb.REASON_PAUSED)
    leasing.decide([("cam", 10.7)])
    leasing.close()
    assert sum(report.too_soon for report in modern.reports) == 3
    assert modern.sizes == [2]


def test_a_sidecar_that_hangs_is_noticed_though_nothing_is_asked(
    modern: Sidecar, decided: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An unanswered report ends the session: who can't answer can't drop leases either."""
    with client_of(modern, decided, deadline=0.3) as limiter:
        limiter.decide([("cam", 1.0)])
        modern.silent = True
        eventually(lambda: limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON] and limiter.away)
        assert "is away" in caplog.messages[0]
        modern.silent = False
        eventually(lambda: not limiter.away)


def test_a_refused_session_is_asked_for_again(
    sidecar: Sidecar, decided: Counter[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile each batch is a call; it is said once."""
    monkeypatch.setattr("worker.rate_limit.SESSION_RETRY_S", 0.05)
    sidecar.sessions = False
    with client_of(sidecar, decided) as limiter:
        for i in range(5):
            assert limiter.decide([("cam", float(i))]) == [Reason.ADMITTED]
        assert [message for message in caplog.messages if "refuses a session" in message] == caplog.messages
        assert len(caplog.messages) == 1
        sidecar.sessions = True
        ts = itertools.count(100)
        eventually(
            lambda: limiter.decide([("cam", float(next(ts)))]) == [Reason.ADMITTED] and len(limiter._leases) == 1
        )
        assert not limiter.away
