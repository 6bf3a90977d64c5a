"""Refuses requests that are no messages, or too much, before a servicer sees them.

By itself grpc.aio answers what can't be decoded with UNKNOWN, which clients take for a defect of the server, and logs a
traceback for each, which lets whoever sends nonsense fill the disk. So the method handlers are wrapped where they are
registered; a good request pays for one more coroutine, 0.1 µs.

What is refused takes no memory but its own bytes while the refusal is on its way: what is larger than its method needs
isn't decoded, and a batch of too many frames is let go at once (a million names of one letter are 3 MB as bytes and 50
as names).

Requests of a session are read by the servicer itself, so it gets the DecodeError.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import grpc
from google.protobuf.message import DecodeError

from handcounter.pacing.bounds import MAX_BATCH_BYTES, too_long, uneven

MAX_SMALL_BYTES: Final = 65536
"""The largest request of a method without columns. What is valid has a few KB; the rest is for fields to come."""

_BATCH: Final = "ShouldProcessBatch"

Context = grpc.aio.ServicerContext[Any, Any]
Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]


class _Refusal(NamedTuple):
    """Stands in the place of a request."""

    status: grpc.StatusCode
    message: str


def refusing_malformed(server: "grpc.aio.Server", on_refused: Callable[[str], None]) -> "grpc.aio.Server":
    """The server, to be passed to the generated ``add_..._to_server``; what is added through it refuses nonsense.

    Args:
        server: what serves.
        on_refused: called with the method's name at each request that is refused so.
    """
    return cast("grpc.aio.Server", _Registrar(server, on_refused))


class _Registrar:
    """As much of a server as the generated code uses."""

    def __init__(self, server: "grpc.aio.Server", on_refused: Callable[[str], None]) -> None:
        self._server = server
        self._on_refused = on_refused

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "tuple[grpc.GenericRpcHandler, ...]") -> None:
        """Passes on: the same methods come through add_registered_method_handlers, which is asked first."""
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Wraps the methods that take one request."""
        wrapped = {
            name: handler
            if handler.request_streaming
            else _wrapped(name, handler, functools.partial(self._on_refused, name))
            for name, handler in method_handlers.items()
        }
        add: Callable[[str, Handlers], None] = self._server.add_registered_method_handlers
        add(service_name, wrapped)


def _wrapped(
    name: str, handler: "grpc.RpcMethodHandler[Any, Any]", on_refused: Callable[[], None]
) -> "grpc.RpcMethodHandler[Any, Any]":
    deserialize = cast(Callable[[bytes], Any], handler.request_deserializer)
    # A method that streams its answers writes them through the context.
    answer = cast(Callable[[object, Context], Awaitable[object]], handler.unary_unary or handler.unary_stream)
    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    has_columns = name == _BATCH
    max_bytes = MAX_BATCH_BYTES if has_columns else MAX_SMALL_BYTES

    def deserialize_or_tell(data: bytes) -> object:
        if len(data) > max_bytes:
            error = f"a request of this method has at most {max_bytes} bytes, got {len(data)}"
            return _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, error)
        try:
            request = deserialize(data)
        except DecodeError:
            return _Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the request is no message of this method's type")
        if has_columns:
            if excess := too_long(len(request.stream_names)):
                return _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, excess)
            if request.ts and (mismatch := uneven(len(request.stream_names), len(request.ts))):
                return _Refusal(grpc.StatusCode.INVALID_ARGUMENT, mismatch)
        return cast(object, request)

    async def answer_or_refuse(request: object, context: Context) -> object:
        try:
            if isinstance(request, _Refusal):
                on_refused()
                await context.abort(request.status, request.message)
            return await answer(request, context)
        except grpc.aio.AbortError as aborted:
            # The call keeps what ended it, and that its frames, which keep the request and the call: garbage that is
            # large, and too few objects for the collector to come soon.
            del request, context
            aborted.__context__ = None
            raise aborted.with_traceback(None) from None

    return make(
        cast(Any, answer_or_refuse),
        request_deserializer=deserialize_or_tell,
        response_serializer=handler.response_serializer,
    )
