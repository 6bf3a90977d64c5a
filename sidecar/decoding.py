"""Refuses requests that are no messages with INVALID_ARGUMENT.

By itself grpc.aio answers them with UNKNOWN, which clients take for a defect of the server, and logs a traceback for
each, which lets whoever sends nonsense fill the disk. The exception is raised before a servicer sees the request, so the
method handlers are wrapped where they are registered; a good request pays for one more coroutine, 0.1 µs.

Requests of a session are read by the servicer itself, so it gets the DecodeError.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError

_UNDECODABLE: Final = object()

Context = grpc.aio.ServicerContext[Any, Any]
Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]


def refusing_undecodable(server: "grpc.aio.Server", on_refused: Callable[[str], None]) -> "grpc.aio.Server":
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
        """Wraps the unary methods."""
        wrapped = {
            name: _wrapped(handler, functools.partial(self._on_refused, name)) if handler.unary_unary else handler
            for name, handler in method_handlers.items()
        }
        add: Callable[[str, Handlers], None] = self._server.add_registered_method_handlers
        add(service_name, wrapped)


def _wrapped(
    handler: "grpc.RpcMethodHandler[Any, Any]", on_refused: Callable[[], None]
) -> "grpc.RpcMethodHandler[Any, Any]":
    deserialize = cast(Callable[[bytes], object], handler.request_deserializer)
    answer = cast(Callable[[object, Context], Awaitable[object]], handler.unary_unary)

    def deserialize_or_tell(data: bytes) -> object:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNDECODABLE

    async def answer_or_refuse(request: object, context: Context) -> object:
        if request is _UNDECODABLE:
            on_refused()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is no message of this method's type")
        return await answer(request, context)

    return grpc.unary_unary_rpc_method_handler(
        cast(Any, answer_or_refuse),
        request_deserializer=deserialize_or_tell,
        response_serializer=handler.response_serializer,
    )
