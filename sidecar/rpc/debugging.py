"""Reflection and channelz: services for those who look into a running server, such as grpcurl.

They are loaded when the first of them is asked for, since their descriptors and the JSON of protobuf would be a tenth
of the sidecar's start, for nothing in most pods. The first such call holds the event loop up for that time, once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import grpc

CHANNELZ: Final = "grpc.channelz.v1.Channelz"
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

_PREFIXES: Final = tuple(f"/{service}/" for service in (CHANNELZ, *REFLECTION))


class DebuggingServices(grpc.GenericRpcHandler):
    """The handlers of these services; to be added to a server."""

    def __init__(self, service_names: Sequence[str]) -> None:
        """Reflection tells about these services, and about the two of its own and channelz."""
        self._service_names = (*service_names, CHANNELZ)
        self._loaded: list[grpc.GenericRpcHandler] = []

    def service(self, handler_call_details: "grpc.HandlerCallDetails") -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Finds the handler of a method; None where it is another service's."""
        if not handler_call_details.method.startswith(_PREFIXES):
            return None
        if not self._loaded:
            self._load()
        return next(filter(None, (handler.service(handler_call_details) for handler in self._loaded)), None)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "Iterable[grpc.GenericRpcHandler]") -> None:
        """Takes in what the generated code would add to a server."""
        self._loaded.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, object]) -> None:
        """Ignores these: the same methods come through add_generic_rpc_handlers."""

    def _load(self) -> None:
        from grpc_channelz.v1 import channelz, channelz_pb2_grpc

        from sidecar.rpc.reflection import add_reflection

        # Not by add_channelz_servicer, which takes what is no server itself for a synchronous one, with threads of its own.
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), self)
        add_reflection(self, self._service_names)
