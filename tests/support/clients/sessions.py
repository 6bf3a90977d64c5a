"""Sessions over a real gRPC server in the test's process, without Redis, and a client that sees each message."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace

import grpc
from support.models.sidecar_world import World
from support.waiting import until

from handcounter.pacing.schedule import Pacing
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

DEADLINE_S = 60.0


class Served(SimpleNamespace):
    """A world, its sessions, and a stub for it."""

    world: World
    sessions: Sessions
    watches: Watches
    metrics: Metrics
    stub: "rate_limit_pb2_grpc.RateLimitServiceAsyncStub"

    def metric(self, name: str, **labels: str) -> float:
        """Returns the value of a metric."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until(self, name: str, value: float, **labels: str) -> None:
        """Waits until a metric has a value."""
        await until(lambda: self.metric(name, **labels) == value, f"{name} is {value:g}")


@contextlib.asynccontextmanager
async def serving(
    max_sessions: int = 3,
    stalled_s: float = 60.0,
    shadow: bool = False,
    pacing: Pacing = Pacing.GCRA,
    max_watches: int = 10_000,
) -> AsyncIterator[Served]:
    """Yields a server with a default of 2 fps whose wall clock is at 5000."""
    world, metrics = World(default=2.0, shadow=shadow, pacing=pacing), Metrics()
    sessions = Sessions(
        world.limiter,
        world.leases,
        metrics,
        wall_clock=lambda: 5000.0,
        max_sessions=max_sessions,
        stalled_s=stalled_s,
    )
    watches = Watches(
        world.watchers,
        world.table,
        world.read_limits,
        metrics,
        pacing=pacing,
        shadow=shadow,
        max_watchers=max_sessions,
        max_watches=max_watches,
        stalled_s=stalled_s,
    )
    metrics.show_watchers(world.watchers)
    follower = FpsFollower(world.table, RedisServers(parse_redis_url("redis://127.0.0.1:1/0")), "key")
    service = RateLimitService(
        world.limiter, world.preview, follower, metrics, sessions, watches, version="1.2.3", settings={}
    )
    server = grpc.aio.server()
    guarded = refusing_malformed(server, lambda method: metrics.invalid_requests.labels(method).inc(), 100)
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(service, guarded)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # Keeps HTTP/2's buffer for a client that doesn't read from growing.
    options = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        yield Served(world=world, sessions=sessions, watches=watches, metrics=metrics, stub=stub)
    await server.stop(None)


class Call:
    """A client's side of a session."""

    def __init__(self, served: Served) -> None:
        self.call = served.stub.ShouldProcessSession()

    async def send(self, *frames: tuple[str, float], reports: tuple[pb.LeasedDenials, ...] = ()) -> None:
        """Sends a request."""
        names, tss = [name for name, _ in frames], [ts for _, ts in frames]
        await self.call.write(pb.ShouldProcessSessionRequest(stream_names=names, ts=tss, leased_denials=reports))

    async def next(self) -> pb.ShouldProcessSessionResponse:
        """Reads a message."""
        async with asyncio.timeout(DEADLINE_S):
            message = await self.call.read()
        assert isinstance(message, pb.ShouldProcessSessionResponse), await self.end()
        return message

    async def ask(self, *frames: tuple[str, float], reports: tuple[pb.LeasedDenials, ...] = ()) -> pb.SessionAnswers:
        """Sends a request; the next message must be the answer."""
        await self.send(*frames, reports=reports)
        message = await self.next()
        assert message.HasField("answers"), message
        return message.answers

    async def dropped(self) -> list[str] | str:
        """Reads a message that must be a revocation; returns the names, or "all"."""
        message = await self.next()
        assert message.HasField("dropped_leases"), message
        return "all" if message.dropped_leases.all_streams else sorted(message.dropped_leases.stream_names)

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Returns how it ended."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.call.code(), await self.call.details()
