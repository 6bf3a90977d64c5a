"""Traces by OpenTelemetry, if wanted: a span per call, whose parent the caller names in its metadata (W3C traceparent).

Imported only where traces are wanted, since it needs the extra ``otel``. OpenTelemetry's own interceptor for gRPC isn't
used: it can't serve handlers that read and write by themselves, as a session's does.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handcounter.ratelimit.v1 import rate_limit_pb2
from sidecar.telemetry.calls import Context, Handler

FLUSH_S: Final = 2.0
"""How long the end of the process waits for spans to be sent."""

_SERVICE: Final = rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].full_name


class Tracing:
    """Makes spans of calls.

    Args:
        processor: takes the spans that ended.
        version: of this program.
    """

    def __init__(self, processor: SpanProcessor, version: str) -> None:
        # Not set as the process' provider: spans are made here alone. The variables OTEL_* are heeded by the SDK,
        # such as OTEL_TRACES_SAMPLER; without it, the caller's word whether to sample holds.
        name = os.environ.get("OTEL_SERVICE_NAME", "fps-sidecar")
        resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("sidecar", version)
        self._propagator = TraceContextTextMapPropagator()

    def traced(self, method: str, handler: Handler) -> Handler:
        """Wraps the handler of a method so that each call is a span."""
        name = f"{_SERVICE}/{method}"
        attributes = {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": method}

        async def call(request: Any, context: Context) -> Any:
            parent = self._propagator.extract(_text(context))
            # An abort is an answer, not a fault of this program: its status is told, not its traceback.
            with self._tracer.start_as_current_span(
                name, parent, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
            ) as span:
                code = grpc.StatusCode.OK
                try:
                    return await handler(request, context)
                except asyncio.CancelledError:
                    code = grpc.StatusCode.CANCELLED
                    raise
                except BaseException as error:
                    told = context.code()
                    code = told if isinstance(told, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
                    if not isinstance(error, grpc.aio.AbortError):
                        span.record_exception(error)
                        span.set_status(StatusCode.ERROR)
                    raise
                finally:
                    span.set_attribute("rpc.grpc.status_code", code.value[0])

        return call

    async def close(self) -> None:
        """Sends what wasn't sent yet; waits for it a bounded time."""
        # A thread of its own: the interpreter would wait for one of asyncio's until the SDK gives up.
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_S)


@contextlib.asynccontextmanager
async def exporting(endpoint: str, version: str) -> AsyncIterator[Tracing]:
    """Traces that go to a collector by OTLP over gRPC, for the length of an async with block.

    Args:
        endpoint: http://HOST:PORT, or https:// for TLS.
        version: of this program.
    """
    tracing = Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=FLUSH_S)), version)
    try:
        yield tracing
    finally:
        await tracing.close()


def _text(context: Context) -> Mapping[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
