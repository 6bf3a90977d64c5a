"""The life of the process: build everything, serve, shut down in a written order."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from handcounter.pacing.bounds import MAX_REQUEST_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc
from process.http import HttpEndpoint
from process.version import version
from sidecar.connections.servers import RedisServers
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.fleet.limiter import FleetLimiter
from sidecar.fleet.scope import FleetScope
from sidecar.limits.follower import FpsFollower, RedisState
from sidecar.limits.table import FpsTable
from sidecar.rpc.debugging import add_debugging_services
from sidecar.rpc.health import REDIS, SERVER, Health
from sidecar.rpc.listen import ListenError, listen
from sidecar.rpc.request_guard import refusing_malformed
from sidecar.rpc.service import RateLimitService
from sidecar.rpc.session import Sessions
from sidecar.settings import SidecarSettings
from sidecar.telemetry.calls import Traced, TracedService
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

FIRST_ATTEMPT_S: Final = 1.0
"""How long a start waits for Redis before it serves without."""

SWEEP_S: Final = 10.0

SERVICES: Final = (
    rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
)
"""Full names of the services of the gRPC server, as reflection lists them."""

MAX_HEALTH_CALLS: Final = 100
"""Calls at one time on the probes' address; more than may watch (see health), so that probes find room."""

MAX_HEALTH_REQUEST_BYTES: Final = 4096
"""The largest request on the probes' address: the name of a component."""


def _options(max_request_bytes: int) -> tuple[tuple[str, int], ...]:
    """What makes up a server; larger requests get RESOURCE_EXHAUSTED."""
    return (
        # Else a second sidecar on the same port would start, and take half of the calls.
        ("grpc.so_reuseport", 0),
        # Else gRPC would take in megabytes of each call that isn't served yet, where the network is fast.
        ("grpc.http2.bdp_probe", 0),
        # gRPC's own limit is below the largest valid batch.
        ("grpc.max_receive_message_length", max_request_bytes),
    )


class Sidecar:
    """Everything that makes up the process, built and wired but not started."""

    def __init__(self, settings: SidecarSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.health = Health()
        self.leases = LeaseBook()
        self.table = FpsTable(settings.fps, self._report_invalid, self.leases)
        self.servers = RedisServers(settings.redis, settings.redis_access)
        self.follower = FpsFollower(
            self.table,
            self.servers,
            settings.config_key,
            on_state=self._redis_changed,
            on_read=self.metrics.redis_reads.inc,
        )
        self.fleet = self._fleet_scope() if settings.scope == "fleet" else None
        self.limiter = self._limiter()
        self.metrics.show(self.limiter, self.follower, settings.metrics_streams)
        if self.fleet:
            self.metrics.show_fleet(self.fleet)
        self.sessions = Sessions(self.limiter, self.leases, self.metrics)
        self.service = RateLimitService(
            self.limiter, self.follower, self.metrics, self.sessions, version=version(), settings=settings.shown()
        )

    def healthz(self) -> tuple[bool, dict[str, object]]:
        """What /healthz tells: the sidecar does its work with or without Redis."""
        return True, {
            "redis": self.follower.state.name,
            "fps_table_age_seconds": round(self.follower.age_s(), 3) if self.follower.age_s() < 1e9 else None,
            "streams": len(self.limiter),
        }

    async def sweep(self) -> None:
        """Keeps the table to the streams that are active, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.limiter.sweep(time.monotonic())

    def _fleet_scope(self) -> FleetScope:
        return FleetScope(
            self.servers,
            self.leases,
            pacing=self.settings.pacing,
            replicas=self.settings.replicas,
            claim_wait_s=self.settings.claim_wait,
        )

    def _limiter(self) -> Limiter:
        settings, learn = self.settings, self.follower.learn
        pacing, most, shadow = settings.pacing, settings.max_streams, settings.shadow
        if self.fleet is None:
            return Limiter(self.table, self.leases, learn, pacing=pacing, max_streams=most, shadow=shadow)
        return FleetLimiter(self.table, self.leases, learn, self.fleet, pacing=pacing, max_streams=most, shadow=shadow)

    def _report_invalid(self, field: str, value: str) -> None:
        self.metrics.invalid_fps_values.inc()
        logger.warning("not a valid fps, so it counts as absent", extra={"stream_name": field, "value": value})

    def _redis_changed(self, state: RedisState) -> None:
        self.metrics.redis_state_changes.labels(state.name).inc()
        self.health.set(REDIS, state is not RedisState.AWAY)


async def serve(settings: SidecarSettings) -> int:
    """Serves until SIGTERM or SIGINT; gives the exit code.

    The order of the end: health says NOT_SERVING, so that nobody new comes; no new calls are accepted; sessions end once
    they answered what they had read; calls in flight finish, for the grace period at most; then Redis, the probes'
    health and the metrics go. A second signal cuts the calls in flight at once.

    Raises:
        ListenError: one of the addresses can't be listened on.
    """
    sidecar = Sidecar(settings)
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(_Signals())
        if settings.http:
            stack.callback(_http(sidecar).close)
        if settings.health_listen:
            await stack.enter_async_context(_running(_health_server(sidecar)))
        server, listening = _server(sidecar, await _traced(stack, settings))
        for background in (sidecar.follower.run(), sidecar.sweep()):
            await stack.enter_async_context(_background(background))
        if sidecar.fleet:
            await stack.enter_async_context(sidecar.fleet.running())
        await sidecar.follower.wait_for_first_attempt(FIRST_ATTEMPT_S)
        if sidecar.fleet and sidecar.follower.state is not RedisState.AWAY:
            await sidecar.fleet.wait_until_in_touch(FIRST_ATTEMPT_S)
        await server.start()
        sidecar.health.set(SERVER, True)  # the probes' own server was there before, and said that this one wasn't
        if settings.shadow:
            logger.warning("in the shadow: every frame is let through, decisions are counted only")
        logger.info("serving", extra={"listen": listening, "redis_url": settings.redis.shown})
        await signals.first.wait()
        logger.info("shutting down", extra={"grace_s": settings.grace})
        sidecar.health.shut_down()
        stopping = asyncio.create_task(server.stop(settings.grace))
        sidecar.sessions.shut_down()
        forced = asyncio.create_task(signals.second.wait())
        await asyncio.wait((stopping, forced), return_when=asyncio.FIRST_COMPLETED)
        was_forced = not stopping.done()
        if was_forced:
            await server.stop(None)
        forced.cancel()
        await stopping
    logger.info("shut down", extra={"forced": was_forced})
    return 1 if was_forced else 0


class _Signals:
    """Turns SIGTERM and SIGINT into events, and puts the handlers back."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _arrived(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


async def _traced(stack: contextlib.AsyncExitStack, settings: SidecarSettings) -> Traced | None:
    """What makes calls spans for the length of the stack; None where traces aren't wanted."""
    if not settings.otlp_endpoint:
        return None
    from sidecar.telemetry.tracing import exporting  # an extra, and half a second of imports

    return (await stack.enter_async_context(exporting(settings.otlp_endpoint, version()))).traced


def _server(sidecar: Sidecar, traced: Traced | None) -> tuple["grpc.aio.Server", list[str]]:
    """The server, not started, and the addresses that it listens on."""
    settings = sidecar.settings
    server = grpc.aio.server(options=_options(MAX_REQUEST_BYTES), maximum_concurrent_rpcs=settings.max_concurrent_calls)
    service: Any = TracedService(sidecar.service, traced) if traced else sidecar.service
    registrar = refusing_malformed(server, lambda method: sidecar.metrics.invalid_requests.labels(method).inc())
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(service, registrar)
    health_pb2_grpc.add_HealthServicer_to_server(sidecar.health, registrar)
    add_debugging_services(server, SERVICES)
    return server, listen(server, settings.listen, settings.tls)


def _health_server(sidecar: Sidecar) -> "grpc.aio.Server":
    server = grpc.aio.server(options=_options(MAX_HEALTH_REQUEST_BYTES), maximum_concurrent_rpcs=MAX_HEALTH_CALLS)
    health_pb2_grpc.add_HealthServicer_to_server(sidecar.health, server)
    # Probes speak no TLS, and health is no secret.
    listen(server, [sidecar.settings.health_listen], None)
    return server


def _http(sidecar: Sidecar) -> HttpEndpoint:
    try:
        return HttpEndpoint(sidecar.settings.http, sidecar.metrics.registry, sidecar.healthz)
    except OSError as error:
        raise ListenError(f"can't listen on {sidecar.settings.http}: {error.strerror or error}") from None


@contextlib.asynccontextmanager
async def _running(server: "grpc.aio.Server") -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def _background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
