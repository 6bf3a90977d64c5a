"""The spans of calls that end badly, and of a collector that can't be reached; without a server."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sidecar.telemetry.tracing import Tracing, exporting


def context(code: object = None, metadata: Sequence[tuple[str, str | bytes]] | None = None) -> Any:
    """The context of a call, which was aborted with this code if it isn't None."""
    return SimpleNamespace(code=lambda: code, invocation_metadata=lambda: metadata)


async def span_of(error: BaseException, code: object = None) -> ReadableSpan:
    """Returns the span of a call whose handler raises an error."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), "1")

    async def handler(_request: object, _context: object) -> None:
        raise error

    with pytest.raises(type(error)):
        await tracing.traced("ShouldProcess", handler)("request", context(code, [("key-bin", b"\0")]))
    await tracing.close()
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.parametrize(
    ("error", "code", "expected", "is_failure"),
    [
        (grpc.aio.AbortError(), grpc.StatusCode.NOT_FOUND, grpc.StatusCode.NOT_FOUND, False),
        (KeyError("x"), None, grpc.StatusCode.UNKNOWN, True),
        (KeyError("x"), 0, grpc.StatusCode.UNKNOWN, True),
        (asyncio.CancelledError(), None, grpc.StatusCode.CANCELLED, False),
    ],
)
async def test_a_span_has_the_status_of_its_call(
    error: BaseException, code: object, expected: grpc.StatusCode, is_failure: bool
) -> None:
    """Only a failure of this program is recorded with its traceback; an abort and a cancelled call are answers."""
    span = await span_of(error, code)
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == expected.value[0]
    assert ([event.name for event in span.events] == ["exception"]) is is_failure
    assert span.status.is_ok is not is_failure


async def test_an_unreachable_collector_is_given_up() -> None:
    """Spans that can't be sent don't keep the process from ending."""
    async with asyncio.timeout(60), exporting("http://127.0.0.1:1", "1") as tracing:

        async def handler(request: object, _context: object) -> object:
            return request

        assert await tracing.traced("ShouldProcess", handler)("request", context()) == "request"
