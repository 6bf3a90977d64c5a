"""Refuses requests that can't be decoded or are too large, before a servicer gets them.

By itself grpc.aio answers what it can't decode with UNKNOWN, which clients take for a defect of the server, and logs a
traceback for each, so that any client could fill the disk. So the method handlers are wrapped when they are registered; a
valid request pays 0.1 µs for one more coroutine.

A refused request takes no more memory than its own bytes while the refusal is sent: what is larger than its method needs
isn't decoded, and a batch with too many frames is released at once (a million names of one letter are 3 MB as bytes and
50 MB as strings). So everything about the size and the shape of a request is checked here and nowhere else; what its
items mean is checked where they are decided.

A request that hasn't arrived after REQUEST_S is refused too: a call that was left half-sent holds one of the server's places
for calls. For that the handlers read the request themselves, since gRPC would wait for it for ever.

Requests of a session are read by the servicer itself, which gets a :class:`Refusal` in place of the request. Other streams of
requests end with the refusal.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from handcounter.pacing.bounds import MAX_BATCH_BYTES, MAX_WATCH_BYTES, too_long, uneven

MAX_SMALL_BYTES: Final = 65536
"""The largest request of a method without columns. Valid ones have a few KB; the rest is for fields to come."""

REQUEST_S: Final = 10.0
"""How long the request of a call, or the first of a session, may take to arrive. The largest needs 7 Mbit/s."""

Context = grpc.aio.ServicerContext[Any, Any]
Deserializer = Callable[[bytes], Any]
Stream = Callable[[AsyncIterator[Any], Context], AsyncIterator[object]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handlers: TypeAlias = "Mapping[str, Handler]"


class Refusal(NamedTuple):
    """Stands in for a request that was refused."""

    status: grpc.StatusCode
    message: str


class _Arrivals:
    """Reads requests, each within a time. One timer serves all calls: a time-out for each would cost more than its decision."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[Any], float] = {}
        """When each call began to wait for its request, seconds by the loop's clock; the longest first."""
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, context: Context) -> object:
        """Returns the request of a call, or a refusal if there is none in time; gRPC's EOF if the client has ended."""
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
        self._since[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(REQUEST_S, self._expire)
        try:
            return cast(object, await context.read())
        except asyncio.CancelledError:
            if task in self._since:  # by gRPC, not below
                raise
            task.uncancel()
            return Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, f"the request didn't arrive within {REQUEST_S:g} s")
        finally:
            self._since.pop(task, None)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        begun_before = loop.time() - REQUEST_S
        for task, since in list(self._since.items()):
            if since > begun_before:
                break
            del self._since[task]
            task.cancel()
        self._timer = loop.call_later(REQUEST_S / 5, self._expire) if self._since else None


class _Bounds(NamedTuple):
    """What a request of a method may have."""

    max_bytes: int | None = MAX_SMALL_BYTES
    """None: as many as the server accepts at all."""
    has_frames: bool = False
    """Whether it has the columns stream_names and ts."""
    has_reports: bool = False
    """Whether it has the column leased_denials."""
    watches: bool = False
    """Whether it has the columns stream_names and source_fps, and the column dropped_stream_names."""
    reads_refusals: bool = False
    """Whether the servicer of a stream of requests reads refusals."""


_BOUNDS: Final = {
    "ShouldProcessBatch": _Bounds(MAX_BATCH_BYTES, has_frames=True),
    "ShouldProcessSession": _Bounds(None, has_frames=True, has_reports=True, reads_refusals=True),
    "WatchLimits": _Bounds(MAX_WATCH_BYTES, watches=True, reads_refusals=True),
}
"""By method; all others have small requests."""


def refusing_malformed(server: "grpc.aio.Server", on_refused: Callable[[str], None]) -> "grpc.aio.Server":
    """Wraps a server, to be passed to the generated ``add_..._to_server``.

    Args:
        server: The server.
        on_refused: Called with the name of the method for each refused request, except those of sessions.

    Returns:
        The server, as far as the generated code uses it. Methods that are added to it refuse malformed requests.
    """
    return cast("grpc.aio.Server", _Registrar(server, on_refused))


class _Registrar:
    """As much of a server as the generated code uses."""

    def __init__(self, server: "grpc.aio.Server", on_refused: Callable[[str], None]) -> None:
        self._server = server
        self._on_refused = on_refused
        self._arrivals = _Arrivals()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "tuple[grpc.GenericRpcHandler, ...]") -> None:
        """Passes them on: gRPC prefers the handlers of add_registered_method_handlers, which has the same methods."""
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Wraps the methods."""
        wrapped = {
            name: _wrapped(
                _BOUNDS.get(name, _Bounds()), handler, self._arrivals, functools.partial(self._on_refused, name)
            )
            for name, handler in method_handlers.items()
        }
        add: Callable[[str, Handlers], None] = self._server.add_registered_method_handlers
        add(service_name, wrapped)


def _wrapped(bounds: _Bounds, handler: Handler, arrivals: _Arrivals, on_refused: Callable[[], None]) -> Handler:
    deserialize = _refusing(bounds, cast(Deserializer, handler.request_deserializer))
    if handler.request_streaming and not bounds.reads_refusals:
        return grpc.stream_stream_rpc_method_handler(
            cast(Any, _ending_with_refusal(cast(Stream, handler.stream_stream), arrivals, on_refused)),
            request_deserializer=deserialize,
            response_serializer=handler.response_serializer,
        )
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(
            cast(Any, handler.stream_stream),
            request_deserializer=deserialize,
            response_serializer=handler.response_serializer,
        )
    # A method that streams its answers writes them through the context.
    answer = cast(Callable[[object, Context], Awaitable[object]], handler.unary_unary or handler.unary_stream)
    make = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler

    async def answer_or_refuse(_requests: object, context: Context) -> object:
        try:
            request = await arrivals.read(context)
            if request is grpc.aio.EOF:
                request = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")
            if isinstance(request, Refusal):
                on_refused()
                await context.abort(request.status, request.message)
            return await answer(request, context)
        except grpc.aio.AbortError as aborted:
            # The call keeps the error that ended it, the error keeps its frames, and these keep the request and the call:
            # garbage that is large, but too few objects for the collector to run soon.
            del request, context
            aborted.__context__ = None
            raise aborted.with_traceback(None) from None

    return make(
        cast(Any, answer_or_refuse), request_deserializer=deserialize, response_serializer=handler.response_serializer
    )


def _ending_with_refusal(answer: Stream, arrivals: _Arrivals, on_refused: Callable[[], None]) -> Stream:
    """Returns a handler of a stream of requests that ends with the first one that is refused, or that is late."""

    async def requests(context: Context) -> AsyncIterator[object]:
        while (request := await arrivals.read(context)) is not grpc.aio.EOF:
            if isinstance(request, Refusal):
                on_refused()
                await context.abort(request.status, request.message)
            yield request

    async def answer_or_end(_requests: AsyncIterator[Any], context: Context) -> AsyncIterator[object]:
        async for response in answer(requests(context), context):
            yield response

    return answer_or_end


def _refusing(bounds: _Bounds, deserialize: Deserializer) -> Deserializer:
    """Returns a deserializer whose result is a refusal for bytes that aren't a request within the bounds."""
    max_bytes, has_frames, has_reports, watches, _ = bounds

    def deserialize_or_refuse(data: bytes) -> object:
        if max_bytes is not None and len(data) > max_bytes:
            error = f"a request of this method may have at most {max_bytes} bytes, got {len(data)}"
            return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, error)
        try:
            request = deserialize(data)
        except DecodeError:
            return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the request isn't a message of this method's type")
        if has_frames:
            frames, tss = len(request.stream_names), len(request.ts)
            if excess := too_long(frames) or (has_reports and too_long(len(request.leased_denials), "reports")):
                return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, excess)
            if tss and (mismatch := uneven(frames, tss)):
                return Refusal(grpc.StatusCode.INVALID_ARGUMENT, mismatch)
        if watches:
            streams, rates = len(request.stream_names), len(request.source_fps)
            if excess := too_long(streams, "streams") or too_long(len(request.dropped_stream_names), "streams"):
                return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, excess)
            if rates and (mismatch := uneven(streams, rates, "source_fps")):
                return Refusal(grpc.StatusCode.INVALID_ARGUMENT, mismatch)
        return cast(object, request)

    return deserialize_or_refuse
