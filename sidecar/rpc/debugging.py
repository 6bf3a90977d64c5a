"""Reflection and channelz: services for tools that inspect a running server, such as grpcurl and grpcdebug."""

from collections.abc import Sequence
from typing import Final

import grpc
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_channelz.v1._async import ChannelzServicer

from sidecar.rpc.reflection import add_reflection

_CHANNELZ: Final = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name


def add_debugging_services(server: "grpc.aio.Server", service_names: Sequence[str]) -> None:
    """Adds channelz and reflection to a server that isn't started yet.

    Args:
        server: The server, guarded against malformed requests.
        service_names: Full names of the server's other services. Reflection lists them besides channelz and itself.
    """
    channelz_pb2_grpc.add_ChannelzServicer_to_server(ChannelzServicer(), server)
    add_reflection(server, [*service_names, _CHANNELZ])
