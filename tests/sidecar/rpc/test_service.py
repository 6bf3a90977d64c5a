"""The RPCs over a real gRPC server in this process, without Redis."""

import math
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.models.sidecar_world import World

from handcounter.pacing.bounds import MAX_BATCH, batch_error
from handcounter.pacing.schedule import stream_name_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from process.redis_url import parse_redis_url
from sidecar.connections.servers import RedisServers
from sidecar.limits.follower import FpsFollower
from sidecar.rpc.request_guard import refusing_malformed
from sidecar.rpc.service import RateLimitService
from sidecar.rpc.session import Sessions
from sidecar.rpc.watch import Watches
from sidecar.telemetry.metrics import Metrics


class Served(SimpleNamespace):
    """A world and a stub that talks to it."""

    world: World
    stub: "rate_limit_pb2_grpc.RateLimitServiceAsyncStub"
    metrics: Metrics


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server at the default fps of 2 whose wall clock says 5000."""
    world, metrics = World(default=2.0), Metrics()
    follower = FpsFollower(world.table, RedisServers(parse_redis_url("redis://127.0.0.1:1")), "key")
    service = RateLimitService(
        world.limiter,
        world.preview,
        follower,
        metrics,
        Sessions(world.limiter, world.leases, metrics, wall_clock=lambda: 5000.0),
        Watches(world.watchers, world.table, world.read_limits, metrics),
        version="1.2.3",
        settings={"fps": "2.0"},
        wall_clock=lambda: 5000.0,
    )
    server = grpc.aio.server()
    guarded = refusing_malformed(server, lambda method: metrics.invalid_requests.labels(method).inc(), 100)
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(service, guarded)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(world=world, metrics=metrics, stub=rate_limit_pb2_grpc.RateLimitServiceStub(channel))
    await server.stop(None)


async def refusal(call: object) -> str:
    """The message of a call that must end with INVALID_ARGUMENT."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return error.value.details() or ""


async def test_a_dry_run_changes_nothing(served: Served) -> None:
    """It has the answer of the real call, single and in a batch, as often as it is asked; then the real call has it, too."""
    dry = pb.ShouldProcessRequest(stream_name="a", ts=5.0, dry_run=True)
    dry_batch = pb.ShouldProcessBatchRequest(stream_names=["a", "a"], ts=[5.0, 5.1], dry_run=True)
    for _ in range(2):
        answer = await served.stub.ShouldProcess(dry)
        answers = await served.stub.ShouldProcessBatch(dry_batch)
        assert (answer.should_process, answer.reason, answer.fps) == (True, pb.REASON_ADMITTED, 2.0)
        assert list(answers.reasons) == [pb.REASON_ADMITTED, pb.REASON_TOO_SOON]
    assert len(served.world.limiter) == 0
    assert await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=5.0)) == answer


async def test_should_process_answers_every_field(served: Served) -> None:
    """One frame's answer has the verdict, the reason, the limit, its source, staleness and next_ts."""
    served.world.set("cam1", "4")
    served.world.table.stale = False
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1", ts=100.0))
    assert answer.should_process
    assert (answer.reason, answer.fps, answer.fps_source) == (pb.REASON_ADMITTED, 4.0, pb.FPS_SOURCE_OVERRIDE)
    assert not answer.stale
    assert answer.next_ts == pytest.approx(100.25, abs=1e-5)
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1", ts=100.1))
    assert (answer.should_process, answer.reason) == (False, pb.REASON_TOO_SOON)


async def test_the_first_frame_of_a_stream_has_its_limit(served: Served) -> None:
    """A stream that was never asked about is looked up before its first frame is decided; and then no more."""
    served.world.redis["new"] = b"4"
    for ts in (1.0, 1.1, 2.0):
        answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="new", ts=ts))
        assert (answer.fps, answer.fps_source) == (4.0, pb.FPS_SOURCE_OVERRIDE)
    assert served.world.reads == [["new"]]


async def test_a_stale_table_is_said(served: Served) -> None:
    """While Redis is unreachable, the answer is stale."""
    served.world.table.stale = True
    assert (await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1))).stale


async def test_a_limit_that_was_never_read_is_said(served: Served) -> None:
    """In every answer, and in ListStreams; a client that asks for known limits only gets no decision."""
    served.world.unreachable = True
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1.0, known_limits_only=True))
    assert (answer.should_process, answer.reason, answer.limit_unread) == (False, pb.REASON_UNSPECIFIED, True)
    batch = pb.ShouldProcessBatchRequest(stream_names=["a", "b"], ts=[1.0, 1.0], known_limits_only=True)
    for dry_run in (True, False):
        batch.dry_run = dry_run
        answers = await served.stub.ShouldProcessBatch(batch)
        assert (list(answers.reasons), list(answers.unread_limits)) == ([pb.REASON_UNSPECIFIED] * 2, [0, 1])
        assert answers.stale
    assert len(served.world.limiter) == 0
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1.0))
    assert (answer.should_process, answer.fps, answer.limit_unread) == (True, 2.0, True)
    (status,) = (await served.stub.ListStreams(pb.ListStreamsRequest())).streams
    assert status.limit_unread
    served.world.unreachable = False
    served.world.table.store(["a"], [b"0"])
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=3.0, known_limits_only=True))
    assert (answer.reason, answer.limit_unread) == (pb.REASON_PAUSED, False)


async def test_an_absent_ts_is_the_time_of_arrival(served: Served) -> None:
    """A frame without ts is decided at the wall clock; a ts of 0 is a ts."""
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a"))
    assert answer.next_ts == pytest.approx(5000.5, abs=1e-5)
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="b", ts=0.0))
    assert answer.next_ts == pytest.approx(0.5, abs=1e-5)
    batch = await served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=["a", "c"]))
    assert list(batch.reasons) == [pb.REASON_DUPLICATE, pb.REASON_ADMITTED]


@pytest.mark.parametrize(
    ("name", "ts", "words"),
    [
        ("", 1.0, ["stream_name", "empty"]),
        ("x" * 257, 1.0, ["stream_name", "256", "257"]),
        ("a", math.nan, ["ts", "finite", "nan"]),
        ("a", math.inf, ["ts", "finite", "inf"]),
        ("a", -math.inf, ["ts", "-inf"]),
        ("a", -0.5, ["ts", "negative", "-0.5"]),
        ("a", 1.7e12, ["ts", "1e+11", "1700000000000", "milliseconds"]),
    ],
)
async def test_nonsense_is_refused_with_what_is_wrong(
    served: Served, name: str, ts: float, words: Sequence[str]
) -> None:
    """INVALID_ARGUMENT names the field and the value, in a batch the index too, and changes nothing."""
    for call, more in [
        (served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name, ts=ts)), []),
        (served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=["ok", name], ts=[1, ts])), ["1:"]),
    ]:
        message = await refusal(call)
        assert [word for word in [*words, *more] if word not in message] == []
    assert len(served.world.limiter) == 0
    assert served.world.table.names() == set()
    assert sum(served.world.roster.decisions) == 0
    assert (
        served.metrics.registry.get_sample_value("sidecar_invalid_requests_total", {"method": "ShouldProcessBatch"})
        == 1.0
    )


@pytest.mark.parametrize("name", ["a", "x" * 256, "ü" * 256, "two words", "*", "🖐️"])
async def test_names_are_counted_in_characters(served: Served, name: str) -> None:
    """Any name of 1 to 256 characters is good, whatever its bytes."""
    assert (await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name, ts=1.0))).should_process


async def test_the_edges_of_ts_are_good(served: Served) -> None:
    """0 and 1e11 are timestamps."""
    answer = await served.stub.ShouldProcessBatch(
        pb.ShouldProcessBatchRequest(stream_names=["a", "b", "c"], ts=[0.0, -0.0, 1e11])
    )
    assert list(answer.should_process) == [True] * 3


async def test_a_batch_answers_in_columns(served: Served) -> None:
    """Each column of the answer is as long as the batch, in its order; the first sight of streams waits once."""
    served.world.redis = {"b": b"0"}
    answer = await served.stub.ShouldProcessBatch(
        pb.ShouldProcessBatchRequest(stream_names=["a", "b", "a", "a"], ts=[10.0, 10.0, 10.1, 10.5])
    )
    assert list(answer.should_process) == [True, False, False, True]
    assert list(answer.reasons) == [pb.REASON_ADMITTED, pb.REASON_PAUSED, pb.REASON_TOO_SOON, pb.REASON_ADMITTED]
    assert list(answer.fps) == [2.0, 0.0, 2.0, 2.0]
    assert list(answer.next_ts) == pytest.approx([10.5, math.inf, 10.5, 11.0], abs=1e-5)
    assert len(served.world.reads) == 1


async def test_an_empty_batch_is_answered(served: Served) -> None:
    """No frames, no answers."""
    answer = await served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest())
    assert answer == pb.ShouldProcessBatchResponse(stale=served.world.table.stale)


async def test_a_batch_has_a_largest_size_and_equal_columns(served: Served) -> None:
    """4096 frames are decided, 4097 refused; ts must be empty or as long as the names."""
    names = [f"s{number % 50}" for number in range(MAX_BATCH + 1)]
    answer = await served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names[:-1]))
    assert len(answer.should_process) == MAX_BATCH
    with pytest.raises(grpc.aio.AioRpcError, match="at most 4096 frames, got 4097") as raised:
        await served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for names_, ts in ([["a", "b"], [1.0]], [["a"], [1.0, 2.0]], [[], [1.0]]):
        message = await refusal(
            served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names_, ts=ts))
        )
        assert f"{len(ts)} ts for {len(names_)} stream_names" in message


@given(
    st.lists(st.tuples(st.text(max_size=4), st.floats()), min_size=1, max_size=8),
)
def test_a_batch_is_good_if_each_of_its_frames_is(frames: list[tuple[str, float]]) -> None:
    """The first bad frame is the one that is named, and no good batch is refused."""
    bad = [
        index
        for index, (name, ts) in enumerate(frames)
        if stream_name_error(name) is not None or not (name and 0.0 <= ts <= 1e11)
    ]
    error = batch_error([name for name, _ in frames], [ts for _, ts in frames])
    assert (error is None) == (not bad)
    if error:
        assert error.startswith(f"frame {bad[0]}: ")


async def test_list_streams_pages(served: Served) -> None:
    """Following next_page_token gives every stream once, in order; the last page has none."""
    names = sorted(f"cam{number}" for number in range(7))
    await served.stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=[*names, "door"]))
    seen, token = [], ""
    for _ in range(4):
        page = await served.stub.ListStreams(pb.ListStreamsRequest(name_prefix="cam", page_size=3, page_token=token))
        seen += [stream.stream_name for stream in page.streams]
        token = page.next_page_token
        if not token:
            break
    assert seen == names
    assert [stream.admitted for stream in page.streams] == [1]


async def test_list_streams_has_a_default_and_a_largest_page(served: Served) -> None:
    """page_size 0 means 100, more than 1000 means 1000, less than 0 is refused."""
    names = [f"s{number:04d}" for number in range(1500)]
    for start in (0, 750):
        served.world.decide_all(names[start : start + 750], [1.0] * 750, 1000.0)
    for asked, given_ in [(0, 100), (1, 1), (1000, 1000), (5000, 1000)]:
        page = await served.stub.ListStreams(pb.ListStreamsRequest(page_size=asked))
        assert len(page.streams) == given_
    assert "-1" in await refusal(served.stub.ListStreams(pb.ListStreamsRequest(page_size=-1)))


@pytest.mark.parametrize("token", ["x", "!!!!", "Y2FtMQ", "////", "_w==", "ZG9vcg=="])
async def test_a_foreign_page_token_is_refused(served: Served, token: str) -> None:
    """A token that no page of this list had is INVALID_ARGUMENT."""
    message = await refusal(served.stub.ListStreams(pb.ListStreamsRequest(name_prefix="cam", page_token=token)))
    assert token in message


async def test_server_info(served: Served) -> None:
    """Version, settings, the state of Redis, the age of a table that never saw it, the number of streams."""
    await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a"))
    info = await served.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert (info.version, dict(info.settings), info.stream_count) == ("1.2.3", {"fps": "2.0"}, 1)
    assert (info.redis_state, info.fps_table_age_seconds) == (pb.REDIS_STATE_AWAY, math.inf)


def test_the_numbers_are_those_of_the_contract() -> None:
    """The enums of the rooms carry the contract's names and numbers."""
    from handcounter.pacing.limits import FpsSource
    from handcounter.pacing.schedule import Reason
    from sidecar.limits.following import RedisState

    for ours, theirs, prefix in [
        (Reason, pb.Reason, "REASON_"),
        (FpsSource, pb.FpsSource, "FPS_SOURCE_"),
        (RedisState, pb.RedisState, "REDIS_STATE_"),
    ]:
        named = {prefix + member.name: member.value for member in ours}
        assert named == {name: number for name, number in theirs.items() if number}
