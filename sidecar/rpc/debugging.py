"""Reflection and channelz: services for tools that inspect a running server, such as grpcurl and grpcdebug.

They are imported when one of them is called for the first time. In most pods nobody does, and their descriptors and the JSON
of protobuf would be a tenth of a start. The first such call holds the event loop up for that time, once.
"""

import functools
from collections.abc import Sequence
from typing import Final

import grpc

from sidecar.rpc.request_guard import add_later

CHANNELZ: Final = "grpc.channelz.v1.Channelz"
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

UNARY_METHODS: Final = frozenset(
    f"/{CHANNELZ}/{method}"
    for method in (
        "GetTopChannels",
        "GetServers",
        "GetServer",
        "GetServerSockets",
        "GetChannel",
        "GetSubchannel",
        "GetSocket",
    )
)
"""Full names of the methods of these services that answer one request once. Their descriptors aren't loaded yet."""


def add_debugging_services(server: "grpc.aio.Server", service_names: Sequence[str]) -> None:
    """Adds channelz and reflection to a server that isn't started yet.

    Args:
        server: The server, guarded against malformed requests.
        service_names: Full names of the server's other services. Reflection lists them besides channelz and itself.
    """
    add_later(server, (CHANNELZ, *REFLECTION), functools.partial(_add, [*service_names, CHANNELZ]))


def _add(service_names: Sequence[str], server: "grpc.aio.Server") -> None:
    from grpc_channelz.v1 import channelz_pb2_grpc
    from grpc_channelz.v1._async import ChannelzServicer

    from sidecar.rpc.reflection import add_reflection

    channelz_pb2_grpc.add_ChannelzServicer_to_server(ChannelzServicer(), server)
    add_reflection(server, service_names)
