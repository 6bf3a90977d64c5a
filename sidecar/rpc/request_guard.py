"""Refuses requests that can't be decoded or are too large, before a servicer gets them.

By itself grpc.aio answers what it can't decode with UNKNOWN, which clients take for a defect of the server, and logs a
traceback for each, so that any client could fill the disk. So the method handlers are wrapped when they are registered; a
valid request pays 0.1 µs for one more coroutine.

A refused request takes no more memory than its own bytes while the refusal is sent: what is larger than its method needs
isn't decoded, and a batch with too many frames is released at once (a million names of one letter are 3 MB as bytes and
50 MB as strings). So everything about the size and the shape of a request is checked here and nowhere else; what its
items mean is checked where they are decided.

Requests of a session are read by the servicer itself, which gets a :class:`Refusal` in place of the request.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from handcounter.pacing.bounds import MAX_BATCH_BYTES, too_long, uneven

MAX_SMALL_BYTES: Final = 65536
"""The largest request of a method without columns. Valid ones have a few KB; the rest is for fields to come."""

Context = grpc.aio.ServicerContext[Any, Any]
Deserializer = Callable[[bytes], Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handlers: TypeAlias = "Mapping[str, Handler]"


class Refusal(NamedTuple):
    """Stands in for a request that was refused."""

    status: grpc.StatusCode
    message: str


class _Bounds(NamedTuple):
    """What a request of a method may have."""

    max_bytes: int | None = MAX_SMALL_BYTES
    """None: as many as the server accepts at all."""
    has_frames: bool = False
    """Whether it has the columns stream_names and ts."""
    has_reports: bool = False
    """Whether it has the column leased_denials."""


_BOUNDS: Final = {
    "ShouldProcessBatch": _Bounds(MAX_BATCH_BYTES, has_frames=True),
    "ShouldProcessSession": _Bounds(None, has_frames=True, has_reports=True),
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

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "tuple[grpc.GenericRpcHandler, ...]") -> None:
        """Passes them on: gRPC prefers the handlers of add_registered_method_handlers, which has the same methods."""
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Wraps the methods."""
        wrapped = {
            name: _wrapped(_BOUNDS.get(name, _Bounds()), handler, functools.partial(self._on_refused, name))
            for name, handler in method_handlers.items()
        }
        add: Callable[[str, Handlers], None] = self._server.add_registered_method_handlers
        add(service_name, wrapped)


def _wrapped(bounds: _Bounds, handler: Handler, on_refused: Callable[[], None]) -> Handler:
    deserialize = _refusing(bounds, cast(Deserializer, handler.request_deserializer))
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(
            cast(Any, handler.stream_stream),
            request_deserializer=deserialize,
            response_serializer=handler.response_serializer,
        )
    # A method that streams its answers writes them through the context.
    answer = cast(Callable[[object, Context], Awaitable[object]], handler.unary_unary or handler.unary_stream)
    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler

    async def answer_or_refuse(request: object, context: Context) -> object:
        try:
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


def _refusing(bounds: _Bounds, deserialize: Deserializer) -> Deserializer:
    """Returns a deserializer whose result is a refusal for bytes that aren't a request within the bounds."""
    max_bytes, has_frames, has_reports = bounds

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
        return cast(object, request)

    return deserialize_or_refuse
