"""Sessions over a real gRPC server in this process, without Redis."""

import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from support.clients.sessions import Call, Served, serving
from support.models.sidecar_world import World

from handcounter.pacing.bounds import MAX_BATCH
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc import places
from sidecar.rpc.session import Sessions
from sidecar.telemetry.metrics import Metrics


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yields a server that accepts three sessions."""
    async with serving() as served:
        yield served


async def test_an_answer_has_columns_and_the_lease(served: Served) -> None:
    """An answer has verdicts, reasons, limits and both ends of the lease, one per frame."""
    served.world.redis.update(cam1=b"4", off=b"0")
    answers = await Call(served).ask(("cam1", 100.0), ("cam1", 100.1), ("off", 7.0), ("cam2", 9.0))
    assert list(answers.should_process) == [True, False, False, True]
    assert list(answers.reasons) == [Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED, Reason.ADMITTED]
    assert list(answers.fps) == [4.0, 4.0, 0.0, 2.0]
    assert list(answers.next_ts) == pytest.approx([100.25, 100.25, math.inf, 9.5], abs=1e-5)
    assert list(answers.last_ts) == [100.0, 100.0, 0.0, 9.0]


@pytest.mark.parametrize("default", [b"2", b"0"])
async def test_a_limit_that_was_never_read_is_said(served: Served, default: bytes) -> None:
    """A client that asks for known limits only gets neither a decision nor a lease on that stream."""
    world, call = served.world, Call(served)
    world.table.store_wildcard(default)
    world.table.store(["known"], [b"4"])
    world.unreachable = True
    request = pb.ShouldProcessSessionRequest(stream_names=["new", "known"], ts=[1.0, 1.0], known_limits_only=True)
    await call.call.write(request)
    answers = (await call.next()).answers
    assert list(answers.reasons) == [pb.REASON_UNSPECIFIED, pb.REASON_ADMITTED]
    assert (list(answers.unread_limits), answers.stale) == ([0], True)
    assert list(answers.next_ts) == pytest.approx([0.0, 1.25], abs=1e-5)
    assert list((await call.ask(("new", 1.0), ("known", 2.0))).unread_limits) == [0]
    world.table.store(["new"], [b"3"])
    assert await call.dropped() == ["new"]
    assert list((await call.ask(("new", 9.0))).unread_limits) == []


async def test_in_shadow_mode_there_are_no_leases() -> None:
    """Every frame is admitted, so no client may deny one, not even of a paused stream."""
    async with serving(shadow=True) as served:
        served.world.redis["off"] = b"0"
        answers = await Call(served).ask(("a", 1.0), ("a", 1.1), ("off", 1.0))
    assert list(answers.should_process) == [True, True, True]
    assert list(answers.reasons) == [Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED]
    assert list(answers.next_ts) == [0.0, 0.0, 0.0]


async def test_every_request_is_answered_in_order(served: Served) -> None:
    """Every request gets an answer, also empty ones and those without ts, whose ts is the time of arrival."""
    call = Call(served)
    await call.send()
    await call.send(("a", 1.0))
    await call.call.write(pb.ShouldProcessSessionRequest(stream_names=["a", "b"]))
    await call.call.done_writing()
    answers = [(await call.next()).answers for _ in range(3)]
    assert [len(each.reasons) for each in answers] == [0, 1, 2]
    assert list(answers[2].last_ts) == [5000.0, 5000.0]
    assert await call.call.read() is grpc.aio.EOF
    assert (await call.end())[0] is grpc.StatusCode.OK
    await served.until("sidecar_sessions", 0)


@pytest.mark.parametrize(("field", "fps"), [("a", "30"), ("a", "inf"), ("a", "0")])
async def test_a_raise_or_a_pause_drops_the_lease_unasked(served: Served, field: str, fps: str) -> None:
    """Only that stream's lease is revoked, in each session that holds it."""
    first, second, third = Call(served), Call(served), Call(served)
    for call in (first, second):
        await call.ask(("a", 1.0), ("b", 1.0))
    await third.ask(("b", 1.0))
    served.world.set(field, fps)
    assert await first.dropped() == ["a"]
    assert await second.dropped() == ["a"]
    assert len((await third.ask()).reasons) == 0


async def test_a_lower_limit_drops_nothing(served: Served) -> None:
    """Nothing is sent before the answer to the next request."""
    call = Call(served)
    await call.ask(("a", 1.0))
    served.world.set("a", "1")
    assert list((await call.ask(("a", 1.5))).reasons) == [Reason.TOO_SOON]


async def test_a_raised_default_drops_all_leases_at_once(served: Served) -> None:
    """There is one message, however many streams; a lower default causes none."""
    call = Call(served)
    await call.ask(*[(f"cam{number}", 1.0) for number in range(MAX_BATCH)])
    served.world.table.store_wildcard(b"1")
    served.world.table.store_wildcard(b"5")
    assert await call.dropped() == "all"
    assert served.metric("sidecar_dropped_leases_total", extent="all") == 1


async def test_another_clients_admission_revokes_the_lease_but_ones_own_does_not(served: Served) -> None:
    """The client whose frame was admitted gets the new lease in the answer."""
    one, other = Call(served), Call(served)
    await one.ask(("a", 1.0))
    await one.ask(("a", 2.0))
    assert list((await other.ask(("a", 3.0))).reasons) == [Reason.ADMITTED]
    assert await one.dropped() == ["a"]
    await one.ask(("a", 3.1))
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=4.0))
    assert answer.should_process
    assert await one.dropped() == ["a"]
    assert await other.dropped() == ["a"]


async def test_a_stream_that_is_no_longer_watched_loses_its_lease(served: Served) -> None:
    """Changes of its limit are no longer noticed."""
    call = Call(served)
    await call.ask(("a", 1.0))
    served.world.now += 100.0
    served.world.limiter.sweep()
    assert await call.dropped() == ["a"]


async def test_no_lease_on_a_stream_whose_watch_ends_while_it_is_asked_about(served: Served) -> None:
    """No change of its limit would revoke the lease, so a paused stream would stay paused forever."""
    world, call = served.world, Call(served)
    world.redis["old"] = b"0"
    await call.ask(("old", 1.0))
    world.now += 100.0

    async def sweep() -> None:
        world.limiter.sweep()

    world.meanwhile = sweep
    answers = await call.ask(("old", 2.0), ("new", 1.0))
    assert list(answers.reasons) == [pb.REASON_PAUSED, pb.REASON_ADMITTED]
    assert answers.next_ts[0] == 0.0
    world.set("old", "5")
    world.meanwhile = None
    assert (await call.ask(("old", 3.0))).should_process == [True]


async def test_reports_keep_the_counters_true(served: Served) -> None:
    """Reports update frames by reason, last reason, silence and speed; an unknown stream is only counted in the totals."""
    call = Call(served)
    await call.ask(("a", 100.0))
    served.world.now += 10.0
    report = pb.LeasedDenials(
        stream_name="a",
        too_soon=5,
        duplicate=2,
        late=1,
        last_ts=104.0,
        last_reason=pb.REASON_LATE,
        age_seconds=2.0,
    )
    foreign = pb.LeasedDenials(stream_name="x", paused=4, last_ts=1.0, last_reason=pb.REASON_PAUSED, age_seconds=0.0)
    await call.ask(reports=(report, foreign))
    (status,) = await served.world.limiter.list_streams("", "", 10)
    assert (status.admitted, status.denied, status.last_reason) == (1, 8, Reason.LATE)
    assert status.speed == pytest.approx(4.0 / 8.0)
    assert status.achieved_fps > 0.0
    assert served.world.roster.decisions == [0, 1, 5, 4, 2, 1]
    assert served.metric("sidecar_leased_denials_total") == 12
    served.world.now += 3.0
    (status,) = await served.world.limiter.list_streams("", "", 10)
    assert status.achieved_fps == 0.0  # silent for 5 s


async def test_an_old_report_does_not_undo_newer_news(served: Served) -> None:
    """A decision that is newer than the reported frames determines the stream's last reason."""
    call = Call(served)
    await call.ask(("a", 100.0))
    served.world.now += 1.0
    report = pb.LeasedDenials(stream_name="a", late=1, last_ts=99.0, last_reason=pb.REASON_LATE, age_seconds=1.5)
    await call.ask(reports=(report,))
    (status,) = await served.world.limiter.list_streams("", "", 10)
    assert (status.denied, status.last_reason) == (1, Reason.ADMITTED)


GOOD = {"stream_name": "a", "too_soon": 1, "last_ts": 1.0, "last_reason": pb.REASON_TOO_SOON}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"stream_names": ["a", ""], "ts": [1.0, 1.0]}, "frame 1: stream_name must not be empty"),
        ({"stream_names": ["a", "b", "c"], "ts": [1.0, 1.0, math.nan]}, "frame 2: ts must be a finite number"),
        ({"stream_names": ["a"], "ts": [1.0, 2.0]}, "ts must be empty or as long as stream_names"),
        ({"stream_names": ["a"], "ts": [1e12]}, "frame 0: .*milliseconds"),
        ({"ts": [1.0]}, "ts must be empty or as long"),
        ({"leased_denials": [GOOD, {**GOOD, "stream_name": ""}]}, "report 1: stream_name must not be empty"),
        ({"leased_denials": [{**GOOD, "stream_name": "x" * 257}]}, "report 0: stream_name must have at most"),
        ({"leased_denials": [{**GOOD, "too_soon": -1}]}, "report 0: the numbers .* must be from 0 to 2147483648"),
        ({"leased_denials": [{**GOOD, "paused": 2**31 + 1}]}, "report 0: the numbers .* must be from 0 to"),
        ({"leased_denials": [{**GOOD, "last_ts": -1.0}]}, "report 0: ts must not be negative"),
        ({"leased_denials": [{**GOOD, "last_reason": 0}]}, "report 0: last_reason must be that of a denial, got 0"),
        ({"leased_denials": [{**GOOD, "last_reason": 1}]}, "report 0: last_reason must be"),
        ({"leased_denials": [{**GOOD, "last_reason": 99}]}, "report 0: last_reason must be"),
        ({"leased_denials": [{**GOOD, "age_seconds": -0.1}]}, "report 0: age_seconds must be"),
        ({"leased_denials": [{**GOOD, "age_seconds": math.nan}]}, "report 0: age_seconds must be"),
        ({"leased_denials": [{**GOOD, "age_seconds": math.inf}]}, "report 0: age_seconds must be"),
    ],
)
async def test_an_invalid_request_ends_the_session_and_changes_nothing(
    served: Served, request_: dict[str, object], message: str
) -> None:
    """INVALID_ARGUMENT names the item; earlier requests are still answered."""
    call = Call(served)
    await call.send(("good", 1.0))
    nonsense = {"stream_names": ["bystander"], "ts": [1.0], "leased_denials": [GOOD], **request_}
    if "stream_names" not in request_ and "ts" in request_:
        nonsense["stream_names"] = []
    await call.call.write(pb.ShouldProcessSessionRequest(**nonsense))  # type: ignore[arg-type]
    assert len((await call.next()).answers.reasons) == 1
    code, details = await call.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(details)
    assert [each.stream_name for each in await served.world.limiter.list_streams("", "", 10)] == ["good"]
    assert sum(served.world.roster.decisions) == 1
    assert served.metric("sidecar_invalid_requests_total", method="ShouldProcessSession") == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"stream_names": ["a"] * (MAX_BATCH + 1)}, "a batch may have at most 4096 frames, got 4097"),
        ({"leased_denials": [GOOD] * (MAX_BATCH + 1)}, "a batch may have at most 4096 reports, got 4097"),
    ],
)
async def test_too_much_at_once_ends_the_session(served: Served, request_: dict[str, Any], message: str) -> None:
    """It ends with RESOURCE_EXHAUSTED, and nothing is changed."""
    call = Call(served)
    await call.call.write(pb.ShouldProcessSessionRequest(**request_))
    assert await call.end() == (grpc.StatusCode.RESOURCE_EXHAUSTED, message)
    assert len(served.world.limiter) == 0


async def test_a_session_without_a_request_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is only opened frees its place after a time."""
    monkeypatch.setattr(places, "REQUEST_S", 0.2)
    opened = Call(served)
    assert await opened.end() == (grpc.StatusCode.DEADLINE_EXCEEDED, "the request didn't arrive within 0.2 s")
    await served.until("sidecar_sessions", 0)
    await served.until("sidecar_invalid_requests_total", 1, method="ShouldProcessSession")


def test_eviction_waits_for_the_reports_of_a_leased_stream() -> None:
    """A stream with leases may have unreported frames, so it isn't silent yet; without a lease its silence is certain."""
    world = World(default=2.0, max_streams=1)
    sessions = Sessions(world.limiter, world.leases, Metrics())
    session = sessions.enter()
    session.outbox.leased.add("a")
    assert world.decide("a", 1.0, world.now)[0] is Reason.ADMITTED
    session.outbox.leased.add("a")
    world.now += 1.9
    assert world.decide("b", 1.0, world.now)[0] is Reason.TOO_SOON
    world.now += 0.2
    assert world.decide("b", 1.0, world.now)[0] is Reason.ADMITTED
    assert session.outbox.leased == set()
    sessions.leave(session)
    world.now += 0.6
    assert world.decide("c", 1.0, world.now)[0] is Reason.ADMITTED
