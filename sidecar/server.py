"""The life of the process: build everything, serve, shut down in a written order."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from handcounter.client import LimitsWatch, tls_credentials
from handcounter.pacing.bounds import MAX_REQUEST_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc
from process.http import HttpEndpoint
from process.version import version
from sidecar.connections.servers import RedisServers
from sidecar.deciding.clock_log import ClockLog
from sidecar.deciding.decider import Decider
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.deciding.pod import PodDecider
from sidecar.deciding.preview import Preview
from sidecar.deciding.roster import Roster
from sidecar.deciding.shadow import ShadowDecider
from sidecar.fleet.decider import FleetDecider
from sidecar.fleet.scope import FleetScope
from sidecar.limits.boost_timer import BoostTimer
from sidecar.limits.change_log import ChangeLog
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.redis_follower import redis_follower
from sidecar.limits.sidecar_follower import SidecarFollower
from sidecar.limits.table import FpsTable
from sidecar.limits.watchers import Watchers
from sidecar.rpc import debugging
from sidecar.rpc.health import REDIS, SERVER, Health
from sidecar.rpc.listen import ListenError, listen, server_options
from sidecar.rpc.places import MAX_ENDING
from sidecar.rpc.request_guard import refusing_malformed
from sidecar.rpc.service import RateLimitService
from sidecar.rpc.session import Sessions
from sidecar.rpc.unread_answers import UnreadAnswers
from sidecar.rpc.watch import Watches
from sidecar.settings import SidecarSettings
from sidecar.stop_signals import StopSignals
from sidecar.telemetry.calls import Traced, TracedService
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

FIRST_ATTEMPT_S: Final = 1.0
"""How long a start waits for Redis before it serves without it."""

SWEEP_S: Final = 10.0
"""How often streams that are no longer active are removed from the fps table."""

_SERVICES: Final = (
    rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)

SERVICES: Final = tuple(service.full_name for service in _SERVICES)
"""Full names of the services of the gRPC server, as reflection lists them."""

UNARY_METHODS: Final = frozenset(
    f"/{service.full_name}/{method.name}"
    for service in _SERVICES
    for method in service.methods
    if not (method.client_streaming or method.server_streaming)
)
"""Full names of the methods of these services that answer one request once."""

MAX_HEALTH_CALLS: Final = 100
"""Concurrent calls on the address for probes: more than may watch (see health), so that there is room for probes."""

MAX_HEALTH_REQUEST_BYTES: Final = 4096
"""The largest request on the address for probes, which is the name of a component."""


class Sidecar:
    """All parts of the process, built and connected to each other but not started."""

    def __init__(self, settings: SidecarSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.health = Health()
        self.leases = LeaseBook()
        self.watchers = Watchers()
        changes = ChangeLog()
        self.table = FpsTable(
            settings.fps,
            self._report_invalid,
            self.leases,
            changes.record,
            self.watchers.record,
            changes.record_pattern,
            clock=time.monotonic,
            wall_clock=time.time,
        )
        self.boost_timer = BoostTimer(self.table)
        self.servers = RedisServers(settings.redis, settings.redis_access)
        self.follower = self._follower()
        self.fleet = self._fleet_scope() if settings.scope == "fleet" else None
        self.roster = Roster(
            self.table,
            self.leases,
            max_streams=settings.max_streams,
            on_evicted=self.fleet.forget if self.fleet else None,
            on_clock_change=ClockLog().record,
            watchers=self.watchers,
        )
        decider = self._decider()
        self.limiter = Limiter(self.table, self.roster, decider, self.follower.learn, shadow=settings.shadow)
        self.preview = Preview(
            self.table, self.roster, decider, self.follower.learn, pacing=settings.pacing, shadow=settings.shadow
        )
        self.metrics.show(
            self.roster, self.table, self.follower, max_streams=settings.metrics_streams, shadow=settings.shadow
        )
        self.metrics.show_watchers(self.watchers)
        self.metrics.show_layers(self.table.layers)
        if self.fleet:
            self.metrics.show_fleet(self.fleet)
        if settings.tls:
            self.metrics.show_certificate(settings.tls.certificate)
        self.sessions = Sessions(self.limiter, self.leases, self.metrics)
        self.watches = Watches(
            self.watchers,
            self.table,
            self.follower.learn,
            self.metrics,
            pacing=settings.pacing,
            shadow=settings.shadow,
            max_watchers=settings.max_watchers,
        )
        self.service = RateLimitService(
            self.limiter,
            self.preview,
            self.follower,
            self.metrics,
            self.sessions,
            self.watches,
            version=version(),
            settings=settings.shown(),
            redis_problem=self.redis_problem,
            layers=self.table.layers,
        )

    def redis_problem(self) -> str:
        """Returns what Redis doesn't do and what to do about it, in one line: the limits, else claims. Empty for nothing."""
        return self.follower.problem_sentence or (self.fleet.problem_sentence if self.fleet else "")

    def healthz(self) -> tuple[bool, dict[str, object]]:
        """Returns the answer of /healthz; the sidecar is healthy with or without Redis."""
        return True, {
            "redis": self.follower.state.name,
            "redis_problem": self.redis_problem(),
            "fps_table_age_seconds": round(self.follower.age_s(), 3) if self.follower.age_s() < 1e9 else None,
            "streams": len(self.limiter),
        }

    def count_refused(self, method: str) -> None:
        """Counts a request that was malformed or late."""
        self.metrics.invalid_requests.labels(method).inc()

    async def sweep(self) -> None:
        """Removes inactive streams from the fps table from time to time, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.limiter.sweep()

    def _follower(self) -> Follower:
        def on_state(state: RedisState) -> None:
            self.metrics.redis_state_changes.labels(state.name).inc()

        settings = self.settings
        if not settings.limits_from:
            return redis_follower(
                self.table,
                self.servers,
                settings.config_key,
                on_state=on_state,
                on_problem=self._report_problem,
                on_read=self.metrics.redis_reads.inc,
            )
        address, ca = settings.limits_from, settings.limits_from_ca

        def open_watch(on_told: Callable[[list[str]], None]) -> LimitsWatch:
            credentials = tls_credentials(ca, settings.limits_from_cert, settings.limits_from_key) if ca else None
            return LimitsWatch(address, on_told=on_told, credentials=credentials)

        follower = SidecarFollower(
            self.table,
            address,
            open_watch,
            self.watchers.source_fps,
            on_state=on_state,
            on_problem=self._report_problem,
        )
        self.watchers.on_source_fps = follower.tell_source_fps
        return follower

    def _fleet_scope(self) -> FleetScope:
        return FleetScope(
            self.servers,
            self.leases,
            pacing=self.settings.pacing,
            replicas=self.settings.replicas,
            claim_wait_s=self.settings.claim_wait,
            on_problem=lambda _sentence: self._report_health(),
        )

    def _decider(self) -> Decider:
        decider: Decider
        if self.fleet:
            decider = FleetDecider(self.roster, self.table, self.leases, self.fleet)
        else:
            decider = PodDecider(self.roster, self.table, self.leases, self.settings.pacing)
        return ShadowDecider(decider) if self.settings.shadow else decider

    def _report_problem(self, _sentence: str) -> None:
        self._report_health()
        self.watchers.record_for_all()

    def _report_health(self) -> None:
        sentence = self.redis_problem()
        self.health.set(REDIS, self.follower.state.is_reachable and not sentence, sentence)

    def _report_invalid(self, field: str, value: str) -> None:
        self.metrics.invalid_fps_values.inc()
        logger.warning("ignoring a limit that isn't a valid fps", extra={"stream_name": field, "value": value})


async def serve(settings: SidecarSettings) -> int:
    """Serves until SIGTERM or SIGINT.

    Shuts down in this order: health becomes NOT_SERVING, so that clients go elsewhere; new calls are rejected; watches end,
    and sessions once they have answered the requests they have read; calls in flight get the grace period to finish; then the
    connections to Redis, the server for probes and the metrics are closed. A second signal cancels the calls in flight.

    Returns:
        The exit code: 0, or 1 if a second signal may have cut calls.

    Raises:
        ListenError: The process can't listen on one of the addresses.
    """
    sidecar = Sidecar(settings)
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        if settings.http:
            stack.callback(_http(sidecar).close)
        if settings.health_listen:
            await stack.enter_async_context(_running(_health_server(sidecar)))
        server, listening = _server(sidecar, await _traced(stack, settings))
        for background in (
            sidecar.follower.run(),
            sidecar.boost_timer.run(),
            sidecar.sweep(),
            UnreadAnswers(UNARY_METHODS | debugging.UNARY_METHODS).run(),
        ):
            await stack.enter_async_context(_background(background))
        if sidecar.fleet:
            await stack.enter_async_context(sidecar.fleet.running())
        await sidecar.follower.wait_for_first_attempt(FIRST_ATTEMPT_S)
        if sidecar.fleet and sidecar.follower.state.is_reachable:
            await sidecar.fleet.wait_until_reachable(FIRST_ATTEMPT_S)
        await server.start()
        sidecar.health.set(SERVER, True)  # until now the server for probes answered NOT_SERVING
        if settings.shadow:
            logger.warning("shadow mode: all frames are admitted")
        follows = {"limits_from": settings.limits_from} if settings.limits_from else {}
        redis = {"redis_url": settings.redis.shown} if sidecar.fleet or not follows else {}
        logger.info("serving", extra={"listen": listening, **follows, **redis})
        await signals.first.wait()
        logger.info("shutting down", extra={"grace_s": settings.grace})
        forced = await _stop(server, sidecar, signals.second)
    logger.info("shut down", extra={"forced": forced})
    return 1 if forced else 0


async def _stop(server: "grpc.aio.Server", sidecar: Sidecar, second_signal: asyncio.Event) -> bool:
    """Stops serving; returns whether a second signal ended the grace period early."""
    sidecar.health.shut_down()
    stopping = asyncio.create_task(server.stop(sidecar.settings.grace))
    sidecar.sessions.shut_down()
    sidecar.watches.shut_down()
    forced = asyncio.create_task(second_signal.wait())
    await asyncio.wait((stopping, forced), return_when=asyncio.FIRST_COMPLETED)
    forced.cancel()
    was_forced = not stopping.done()
    if was_forced:
        await server.stop(None)
    await stopping
    return was_forced


async def _traced(stack: contextlib.AsyncExitStack, settings: SidecarSettings) -> Traced | None:
    """Returns what turns calls into spans, until the stack is closed; None without --otlp-endpoint."""
    if not settings.otlp_endpoint:
        return None
    from sidecar.telemetry.tracing import exporting  # needs an extra, and half a second of imports

    return (await stack.enter_async_context(exporting(settings.otlp_endpoint, version()))).traced


def _server(sidecar: Sidecar, traced: Traced | None) -> tuple["grpc.aio.Server", list[str]]:
    """Returns the server, not started, and the addresses it is bound to."""
    settings = sidecar.settings
    most_calls = settings.max_concurrent_calls
    server = grpc.aio.server(options=server_options(MAX_REQUEST_BYTES), maximum_concurrent_rpcs=most_calls + MAX_ENDING)
    service: Any = TracedService(sidecar.service, traced) if traced else sidecar.service
    registrar = refusing_malformed(server, sidecar.count_refused, most_calls)
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(service, registrar)
    health_pb2_grpc.add_HealthServicer_to_server(sidecar.health, registrar)
    debugging.add_debugging_services(registrar, SERVICES)
    return server, listen(server, settings.listen, settings.tls)


def _health_server(sidecar: Sidecar) -> "grpc.aio.Server":
    server = grpc.aio.server(
        options=server_options(MAX_HEALTH_REQUEST_BYTES), maximum_concurrent_rpcs=MAX_HEALTH_CALLS + MAX_ENDING
    )
    registrar = refusing_malformed(server, sidecar.count_refused, MAX_HEALTH_CALLS)
    health_pb2_grpc.add_HealthServicer_to_server(sidecar.health, registrar)
    # Probes don't use TLS, and health isn't secret.
    listen(server, [sidecar.settings.health_listen], None)
    return server


def _http(sidecar: Sidecar) -> HttpEndpoint:
    try:
        return HttpEndpoint(sidecar.settings.http, sidecar.metrics.registry, sidecar.healthz)
    except OSError as error:
        reason = error.strerror or error
        raise ListenError(
            f"can't listen on --http {sidecar.settings.http}: {reason}; port 0 takes a free one"
        ) from None


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
