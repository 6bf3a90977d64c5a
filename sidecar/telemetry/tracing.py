"""Traces with OpenTelemetry: a span per call, whose parent is in the caller's metadata (W3C traceparent).

Imported only with --otlp-endpoint, because it needs the extra ``otel``. OpenTelemetry's own interceptor for gRPC isn't
used, because it doesn't support handlers that read and write through the context, as that of a session does.
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
"""How long the process waits at its end for spans to be sent."""

_SERVICE: Final = rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].full_name


class Tracing:
    """Makes spans of calls.

    Args:
        processor: Gets each span that ended.
        version: The version of this program.
    """

    def __init__(self, processor: SpanProcessor, version: str) -> None:
        # Not the process' global provider, because only this class makes spans. The SDK reads the variables OTEL_*;
        # without OTEL_TRACES_SAMPLER the caller decides whether a call is sampled.
        name = os.environ.get("OTEL_SERVICE_NAME", "fps-sidecar")
        resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("sidecar", version)
        self._propagator = TraceContextTextMapPropagator()

    def traced(self, method: str, handler: Handler) -> Handler:
        """Returns a handler of the method whose calls are spans."""
        name = f"{_SERVICE}/{method}"
        attributes = {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": method}

        async def call(request: Any, context: Context) -> Any:
            parent = self._propagator.extract(_text(context))
            # An abort is an answer, not a failure of this program: the span gets its status but no traceback.
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
                    aborted_with = context.code()
                    code = aborted_with if isinstance(aborted_with, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
                    if not isinstance(error, grpc.aio.AbortError):
                        span.record_exception(error)
                        span.set_status(StatusCode.ERROR)
                    raise
                finally:
                    span.set_attribute("rpc.grpc.status_code", code.value[0])

        return call

    async def close(self) -> None:
        """Sends the remaining spans, but waits at most FLUSH_S."""
        # In a daemon thread, because the interpreter would wait for one of asyncio's threads until the SDK gives up.
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_S)


@contextlib.asynccontextmanager
async def exporting(endpoint: str, version: str) -> AsyncIterator[Tracing]:
    """Sends spans to a collector with OTLP over gRPC until the block ends.

    Args:
        endpoint: http://HOST:PORT, or https://HOST:PORT for TLS.
        version: The version of this program.
    """
    tracing = Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=FLUSH_S)), version)
    try:
        yield tracing
    finally:
        await tracing.close()


def _text(context: Context) -> Mapping[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
