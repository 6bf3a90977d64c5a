"""Watches over a real gRPC server in this process, without Redis."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import grpc
import pytest
from support.clients.sessions import DEADLINE_S, Served, serving
from support.waiting import until

from handcounter.pacing.bounds import MAX_BATCH
from handcounter.pacing.schedule import MAX_STREAM_NAME_LENGTH, Pacing
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc import places
from sidecar.rpc.watch import LIMITS_PER_MESSAGE

INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yields a server that accepts three watchers."""
    async with serving() as served:
        yield served


class Watch:
    """A client's side of a watch."""

    def __init__(self, served: Served) -> None:
        self.call = served.stub.WatchLimits()

    async def send(self, *names: str, source_fps: tuple[float, ...] = (), dropped: tuple[str, ...] = ()) -> None:
        """Sends a request."""
        request = pb.WatchLimitsRequest(stream_names=names, source_fps=source_fps, dropped_stream_names=dropped)
        await self.call.write(request)

    async def next(self) -> pb.WatchLimitsResponse:
        """Reads a message."""
        async with asyncio.timeout(DEADLINE_S):
            message = await self.call.read()
        assert isinstance(message, pb.WatchLimitsResponse), await self.end()
        return message

    async def told(self) -> dict[str, float]:
        """Reads a message; returns the limits in it."""
        return {limit.stream_name: limit.fps for limit in (await self.next()).limits}

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Returns how it ended."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.call.code(), await self.call.details()


async def test_first_all_then_what_changed(served: Served) -> None:
    """Each limit comes with its source, and a value that is ignored; then each change comes unasked."""
    served.world.redis.update(cam1=b"4", off=b"0", typo=b"5,0")
    served.world.table.store_wildcard(b"inf")
    watch = Watch(served)
    await watch.send("cam1", "off", "typo", "other")
    message = await watch.next()
    assert [(told.stream_name, told.fps, told.fps_source, told.invalid_value) for told in message.limits] == [
        ("cam1", 4.0, pb.FPS_SOURCE_OVERRIDE, ""),
        ("off", 0.0, pb.FPS_SOURCE_OVERRIDE, ""),
        ("typo", math.inf, pb.FPS_SOURCE_WILDCARD, "5,0"),
        ("other", math.inf, pb.FPS_SOURCE_WILDCARD, ""),
    ]
    served.world.set("cam1", "7")
    assert await watch.told() == {"cam1": 7.0}
    served.world.table.store_wildcard(None)
    assert await watch.told() == {"typo": 2.0, "other": 2.0}


@pytest.mark.parametrize("pacing", list(Pacing))
@pytest.mark.parametrize("shadow", [False, True])
async def test_what_applies_to_all_streams(pacing: Pacing, shadow: bool) -> None:
    """A message says how slots advance, whether frames may be left out, and whether Redis can be read."""
    async with serving(pacing=pacing, shadow=shadow) as served:
        watch = Watch(served)
        await watch.send()
        message = await watch.next()
        assert (list(message.limits), message.shadow, message.stale) == ([], shadow, True)
        assert message.pacing == {Pacing.GCRA: pb.PACING_GCRA, Pacing.MIN_GAP: pb.PACING_MIN_GAP}[pacing]
        served.world.table.stale = False
        served.world.watchers.record_for_all()
        assert (await watch.next()).stale is False


async def test_watching_is_not_asking(served: Served) -> None:
    """No stream gets a schedule, so the next frame is decided as if nobody watched; the stream's limit is read once."""
    watch = Watch(served)
    await watch.send("a", source_fps=(25.0,))
    assert await watch.told() == {"a": 2.0}
    assert len(served.world.limiter) == 0
    answer = await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1.0))
    assert answer.should_process
    assert served.world.reads == [["a"]]


async def test_the_sources_rate_is_listed(served: Served) -> None:
    """ListStreams has the rate that was told last, until the call ends."""

    async def source_fps() -> float:
        (listed,) = (await served.stub.ListStreams(pb.ListStreamsRequest())).streams
        return listed.source_fps

    await served.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1.0))
    assert await source_fps() == 0.0
    watch = Watch(served)
    await watch.send("a", source_fps=(25.0,))
    await watch.told()
    assert await source_fps() == 25.0
    await watch.send("a", source_fps=(12.5,))
    assert await watch.told() == {}
    assert await source_fps() == 12.5
    watch.call.cancel()
    await served.until("sidecar_watchers", 0)
    assert await source_fps() == 0.0


async def test_a_source_that_delivers_is_not_silent(served: Served) -> None:
    """Its publisher leaves out what would be denied, so nothing may be heard of it for longer than 5 s."""
    world = served.world
    for second in range(3):
        world.ask("a", float(10 * second))
        world.now += 10.0
    statuses = await world.limiter.list_streams("", "", 1)
    assert statuses[0].achieved_fps == 0.0
    watch = Watch(served)
    await watch.send("a", source_fps=(25.0,))
    await watch.told()
    statuses = await world.limiter.list_streams("", "", 1)
    assert statuses[0].achieved_fps == pytest.approx(0.1)


async def test_streams_that_somebody_watches_stay_watched(served: Served) -> None:
    """A sweep removes other silent streams, and these once nobody watches them."""
    world, watch = served.world, Watch(served)
    world.ask("a", 1.0)
    await watch.send("a", "b")
    await watch.told()
    world.now += 1000.0
    world.limiter.sweep()
    assert set(world.table.watched) == {"a", "b"}
    world.set("b", "9")
    assert await watch.told() == {"b": 9.0}
    await watch.send(dropped=("a", "b"))
    assert await watch.told() == {}
    world.limiter.sweep()
    assert set(world.table.watched) == set()


async def test_dropped_streams_are_not_told(served: Served) -> None:
    """They can be watched again."""
    watch = Watch(served)
    await watch.send("a", "b")
    await watch.told()
    await watch.send(dropped=("a",))
    assert await watch.told() == {}
    served.world.set("a", "9")
    served.world.set("b", "8")
    assert await watch.told() == {"b": 8.0}
    await watch.send("a", dropped=("a", "b"))
    assert await watch.told() == {"a": 9.0}


async def test_a_watch_goes_on_after_the_last_request(served: Served) -> None:
    """A tool that sends one request and waits sees the changes."""
    watch = Watch(served)
    await watch.send("a")
    await watch.call.done_writing()
    assert await watch.told() == {"a": 2.0}
    served.world.set("a", "9")
    assert await watch.told() == {"a": 9.0}


@pytest.mark.parametrize("requests", [0, 1, 2])
async def test_a_watch_of_nothing_ends_with_the_last_request(served: Served, requests: int) -> None:
    """Nothing could ever be told."""
    watch = Watch(served)
    for number in range(requests):
        await watch.send(*["a"] * (requests - 1 - number), dropped=("a",))
    await watch.call.done_writing()
    while await watch.call.read() is not grpc.aio.EOF:
        pass
    assert (await watch.end())[0] is grpc.StatusCode.OK
    await served.until("sidecar_watchers", 0)


async def test_many_streams_come_in_several_messages(served: Served) -> None:
    """None is larger than what clients accept, even with the longest names."""
    names = [f"{number:04}".ljust(MAX_STREAM_NAME_LENGTH, "😀") for number in range(MAX_BATCH)]
    watch, told = Watch(served), {}
    await watch.send(*names)
    for _ in range(MAX_BATCH // LIMITS_PER_MESSAGE):
        told.update(await watch.told())
    assert told == dict.fromkeys(names, 2.0)


@pytest.mark.parametrize(
    ("names", "rates", "error"),
    [
        (("a", ""), (), "stream 1: stream_name must not be empty"),
        (("a", "b"), (1.0, -1.0), "stream 1: source_fps must be finite and not negative, got -1.0"),
        (("a",), (math.nan,), "stream 0: source_fps must be finite and not negative, got nan"),
        (("a",), (math.inf,), "stream 0: source_fps must be finite and not negative, got inf"),
        (
            ("a", "b"),
            (1.0,),
            "source_fps must be empty or as long as stream_names, got 1 source_fps for 2 stream_names",
        ),
    ],
)
async def test_an_invalid_request_ends_the_watch(
    served: Served, names: tuple[str, ...], rates: tuple[float, ...], error: str
) -> None:
    """Nothing in it takes effect."""
    watch = Watch(served)
    await watch.send("x")
    await watch.told()
    await watch.send(*names, source_fps=rates, dropped=("x",))
    assert await watch.end() == (INVALID, error)
    assert "a" not in served.world.table.watched
    assert served.metric("sidecar_invalid_requests_total", method="WatchLimits") == 1


async def test_too_many_streams_in_a_request(served: Served) -> None:
    """Both lists are bounded."""
    for names, dropped in ((MAX_BATCH + 1, 0), (0, MAX_BATCH + 1)):
        watch = Watch(served)
        await watch.send(*["a"] * names, dropped=("a",) * dropped)
        assert await watch.end() == (EXHAUSTED, f"a batch may have at most {MAX_BATCH} streams, got {MAX_BATCH + 1}")


async def test_too_many_streams_in_all() -> None:
    """The bound is for all watchers; what is dropped or watched already doesn't count."""
    async with serving(max_watches=3) as served:
        one, other = Watch(served), Watch(served)
        await one.send("a", "b")
        await one.told()
        await other.send("a")
        await other.told()
        await one.send("a", "b", source_fps=(1.0, 1.0))
        assert await one.told() == {}
        await one.send("c", dropped=("a",))
        assert await one.told() == {"c": 2.0}
        await one.send("d", "b", "c", dropped=("b", "c"))  # these two are watched again
        code, details = await one.end()
        assert code is EXHAUSTED
        assert "at most 3 streams" in details
        await other.send("b", "c")
        assert await other.told() == {"b": 2.0, "c": 2.0}


async def test_only_so_many_watchers(served: Served) -> None:
    """One more is refused; when one has ended, there is room again."""
    watches = [Watch(served) for _ in range(3)]
    for watch in watches:
        await watch.send()
        await watch.told()
    assert await Watch(served).end() == (EXHAUSTED, "at most 3 watchers are served (--max-watchers)")
    assert served.metric("sidecar_refused_watches_total", status="RESOURCE_EXHAUSTED") == 1
    watches[0].call.cancel()
    await served.until("sidecar_watchers", 2)
    again = Watch(served)
    await again.send("a")
    assert await again.told() == {"a": 2.0}


async def test_a_watch_without_a_request_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold a place for ever."""
    monkeypatch.setattr(places, "REQUEST_S", 0.01)
    code, _ = await Watch(served).end()
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_at_shutdown_watches_end_and_new_ones_are_refused(served: Served) -> None:
    """They end with UNAVAILABLE, like those of a lost sidecar."""
    watch = Watch(served)
    await watch.send("a")
    await watch.told()
    served.watches.shut_down()
    assert await watch.end() == (grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
    assert (await Watch(served).end())[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_does_not_read_is_cut() -> None:
    """It watches nothing any more, and its call ends as soon as it reads; until then each stream is pending once."""
    async with serving(stalled_s=0.2) as served:
        names = [f"{number:04}".ljust(MAX_STREAM_NAME_LENGTH, "x") for number in range(LIMITS_PER_MESSAGE)]
        watch = Watch(served)
        await watch.send(*names)
        await served.until("sidecar_watchers", 1)

        def change_all_until_cut() -> bool:
            fps = served.metric("sidecar_told_limits_total")
            for name in names:
                served.world.set(name, f"{fps + 1}")
            return served.metric("sidecar_watchers") == 0

        await until(change_all_until_cut, "the watch is cut")
        assert served.metric("sidecar_watched_streams") == 0
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await watch.call.read() is not grpc.aio.EOF:
                pass
        assert await watch.end() == (EXHAUSTED, "the client doesn't read")


async def test_a_limit_that_was_never_read_is_said_and_told_again(served: Served) -> None:
    """Also if the limit that is read then is the one that was assumed: until then the stream might have been paused."""
    served.world.unreachable = True
    watch = Watch(served)
    await watch.send("cam1")
    (told,) = (await watch.next()).limits
    assert (told.fps, told.limit_unread) == (2.0, True)
    served.world.table.store(["cam1"], [None])
    (told,) = (await watch.next()).limits
    assert (told.fps, told.limit_unread) == (2.0, False)
