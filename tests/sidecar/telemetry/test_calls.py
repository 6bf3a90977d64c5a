"""What is recorded about calls: times, spans, and shadow mode; over real gRPC."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import pytest
from support.models.sidecar_world import World

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from process.redis_url import parse_redis_url
from sidecar.connections.servers import RedisServers
from sidecar.limits.follower import FpsFollower
from sidecar.rpc.service import RateLimitService
from sidecar.rpc.session import Sessions
from sidecar.rpc.watch import Watches
from sidecar.telemetry.calls import Traced, TracedService
from sidecar.telemetry.metrics import Metrics

SERVICE = "handcounter.ratelimit.v1.RateLimitService"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)

Stub = Any
Serve = Callable[..., AbstractAsyncContextManager[Stub]]


@pytest.fixture
def world() -> World:
    """A world with the default of 2 fps."""
    return World(default=2.0)


@pytest.fixture
def metrics() -> Metrics:
    """The metrics."""
    return Metrics()


@pytest.fixture
def serve(world: World, metrics: Metrics) -> Serve:
    """Returns a function that serves the world."""

    @asynccontextmanager
    async def serving(traced: Traced | None = None) -> AsyncIterator[Stub]:
        follower = FpsFollower(world.table, RedisServers(parse_redis_url("redis://127.0.0.1:1")), "key")
        sessions = Sessions(world.limiter, world.leases, metrics)
        watches = Watches(world.watchers, world.table, world.read_limits, metrics)
        service = RateLimitService(
            world.limiter, world.preview, follower, metrics, sessions, watches, version="1", settings={}
        )
        server = grpc.aio.server()
        served: Any = TracedService(service, traced) if traced else service
        rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(served, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        await server.stop(None)

    return serving


async def ask_all(stub: Stub, **options: Any) -> None:
    """Makes one call of each method without a session, and one that is rejected."""
    await stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1.0), **options)
    await stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=["a", "b"], ts=[2.0, 2.0]), **options)
    await stub.ListStreams(pb.ListStreamsRequest(), **options)
    await stub.GetServerInfo(pb.GetServerInfoRequest(), **options)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.ShouldProcess(pb.ShouldProcessRequest(), **options)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_each_decision_is_timed_once(serve: Serve, metrics: Metrics) -> None:
    """The histogram has one observation per answered request with frames, and none for other calls."""
    async with serve() as stub:
        await ask_all(stub)
    (family,) = (metric for metric in metrics.registry.collect() if metric.name == "sidecar_decision_seconds")
    counts = {sample.labels["method"]: sample.value for sample in family.samples if sample.name.endswith("_count")}
    sums = {sample.labels["method"]: sample.value for sample in family.samples if sample.name.endswith("_sum")}
    assert {method: count for method, count in counts.items() if count} == {"ShouldProcess": 1, "ShouldProcessBatch": 1}
    assert 0.0 < sums["ShouldProcess"] < 60.0


async def test_shadow_mode_admits_every_frame(serve: Serve, world: World) -> None:
    """Each answer is yes, without a next_ts to deny by; reasons and counters show the actual decisions."""
    world.enter_shadow_mode()
    world.set("paused", "0")
    async with serve() as stub:
        answers = [
            await stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=ts)) for ts in (1.0, 1.1, 1.0, 0.5)
        ]
        batch = await stub.ShouldProcessBatch(
            pb.ShouldProcessBatchRequest(stream_names=["b", "b", "paused"], ts=[1.0, 1.1, 1.0])
        )
        listed = await stub.ListStreams(pb.ListStreamsRequest())
    assert [answer.should_process for answer in answers] == [True] * 4
    assert [answer.next_ts for answer in answers] == [0.0] * 4
    assert [answer.reason for answer in answers] == [
        pb.REASON_ADMITTED,
        pb.REASON_TOO_SOON,
        pb.REASON_DUPLICATE,
        pb.REASON_LATE,
    ]
    assert [answer.fps for answer in answers] == [2.0] * 4
    assert (list(batch.should_process), list(batch.next_ts)) == ([True] * 3, [0.0] * 3)
    assert list(batch.reasons) == [pb.REASON_ADMITTED, pb.REASON_TOO_SOON, pb.REASON_PAUSED]
    assert [(stream.stream_name, stream.admitted, stream.denied) for stream in listed.streams] == [
        ("a", 1, 3),
        ("b", 1, 1),
        ("paused", 0, 1),
    ]


async def test_a_session_is_timed_by_request(serve: Serve, metrics: Metrics) -> None:
    """Each answered request with frames is one observation."""
    request = pb.ShouldProcessSessionRequest(stream_names=["a", "a"], ts=[1.0, 1.1])
    async with serve() as stub:
        session = stub.ShouldProcessSession()
        await session.write(request)
        await session.read()
        await session.write(pb.ShouldProcessSessionRequest())
        await session.read()
        await session.write(request)
        await session.read()
        await session.done_writing()
    method = {"method": "ShouldProcessSession"}
    assert metrics.registry.get_sample_value("sidecar_decision_seconds_count", method) == 2


async def test_each_call_is_a_span(serve: Serve) -> None:
    """A call's span is a child of the caller's, by the traceparent in its metadata, and has method and status."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import SpanKind

    from sidecar.telemetry.tracing import Tracing

    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), "1.2.3")
    async with serve(tracing.traced) as stub:
        await ask_all(stub, metadata=CALLER)
        await stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="alone", ts=1.0))
        await stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=1.0), metadata=(("traceparent", "00-x"),))
    spans = exporter.get_finished_spans()
    methods = ["ShouldProcess", "ShouldProcessBatch", "ListStreams", "GetServerInfo", *["ShouldProcess"] * 3]
    assert [span.name for span in spans] == [f"{SERVICE}/{method}" for method in methods]
    codes = [span.attributes["rpc.grpc.status_code"] for span in spans]
    assert codes == [0, 0, 0, 0, grpc.StatusCode.INVALID_ARGUMENT.value[0], 0, 0]
    for span in spans[:5]:
        assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert [span.parent for span in spans[5:]] == [None, None]
    assert {span.kind for span in spans} == {SpanKind.SERVER}
    assert {span.resource.attributes["service.name"] for span in spans} == {"fps-sidecar"}
    assert [span.events for span in spans] == [()] * len(spans)
    await tracing.close()


async def test_the_caller_decides_about_sampling(serve: Serve) -> None:
    """Without the flag in the caller's traceparent there is no span."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from sidecar.telemetry.tracing import Tracing

    exporter = InMemorySpanExporter()
    async with serve(Tracing(SimpleSpanProcessor(exporter), "1").traced) as stub:
        await stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=(("traceparent", f"00-{TRACE}-{SPAN}-00"),))
    assert exporter.get_finished_spans() == ()
