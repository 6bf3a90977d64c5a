"""The listening side of a gRPC server: its options, and binding its addresses, with the reason if one can't be bound."""

import resource
import socket
from collections.abc import Sequence
from typing import Final

import grpc

from process.address import split_host_port
from sidecar.tls import ReloadedCertificate, TlsFiles, is_private


class ListenError(Exception):
    """The process can't listen on an address; the message names it and the reason."""


PING_S: Final = 30
"""A client that sends nothing for so long is pinged. One that was cut off or is frozen is gone 10 s after that."""

PONG_S: Final = 10
"""How long a client may take to answer a ping."""

SHORTEST_PING_S: Final = 5
"""Clients may ping as often as this. Those in Go and Java can ping every 10 s; by default gRPC ends the connection of a client
that pings more often than every 300 s."""

IDLE_S: Final = 60
"""How long a connection without calls stays open. A client connects again with its next call."""

HANDSHAKE_S: Final = 10
"""How long a client may take from the connection to its first HTTP/2 frame."""


def server_options(max_request_bytes: int) -> tuple[tuple[str, int], ...]:
    """Returns gRPC server options; larger requests get RESOURCE_EXHAUSTED."""
    return (
        ("grpc.keepalive_time_ms", PING_S * 1000),
        ("grpc.keepalive_timeout_ms", PONG_S * 1000),
        ("grpc.http2.ping_timeout_ms", PONG_S * 1000),  # the same for the answer itself, by default a minute
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", SHORTEST_PING_S * 1000),
        ("grpc.max_connection_idle_ms", IDLE_S * 1000),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
        ("grpc.max_allowed_incoming_connections", max_connections()),
        # Otherwise a second sidecar could start on the same port and get half of the calls.
        ("grpc.so_reuseport", 0),
        # Otherwise gRPC would, on a fast network, buffer megabytes of each call that isn't served yet.
        ("grpc.http2.bdp_probe", 0),
        # gRPC's own limit is below the largest valid batch.
        ("grpc.max_receive_message_length", max_request_bytes),
    )


def max_connections() -> int:
    """Returns how many connections each address accepts: half of the process's descriptors, so that the rest of it has some."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def listen(server: "grpc.aio.Server", addresses: Sequence[str], tls: TlsFiles | None) -> list[str]:
    """Binds a server that isn't started yet.

    Args:
        server: The server.
        addresses: HOST:PORT or unix:/path. An empty host means all interfaces, port 0 any free port.
        tls: The certificate for all addresses that other machines can reach; None serves those in plain text too.

    Returns:
        The addresses with the actual ports.

    Raises:
        ListenError: An address can't be bound, such as one in use.
    """
    credentials = ReloadedCertificate(tls).credentials() if tls else None
    return [_bind(server, address, None if is_private(address) else credentials) for address in addresses]


def _bind(server: "grpc.aio.Server", address: str, credentials: "grpc.ServerCredentials | None") -> str:
    path = address.removeprefix("unix:")
    is_socket = path != address
    if is_socket and _has_listener(path):
        raise ListenError(f"can't listen on {address}: Address already in use")
    place = f"[::]{address}" if address.startswith(":") else address
    try:
        port = server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
    except RuntimeError:
        raise ListenError(f"can't listen on {address}: {_reason(address)}") from None
    host, _, given = address.rpartition(":")
    return address if is_socket or int(given) else f"{host}:{port}"


def _reason(address: str) -> str:
    """Returns why an address can't be bound. gRPC doesn't say, so this tries once more with plain sockets."""
    path = address.removeprefix("unix:")
    try:
        if path != address:
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.bind(path)
        else:
            host, port = split_host_port(address)
            for family, kind, protocol, _, place in socket.getaddrinfo(host or None, port, flags=socket.AI_PASSIVE):
                if kind is socket.SOCK_STREAM:
                    with socket.socket(family, kind, protocol) as attempt:
                        attempt.bind(place)
    except OSError as error:
        return error.strerror or str(error)
    return "gRPC failed to bind it"


def _has_listener(path: str) -> bool:
    """Whether a process listens on a unix socket. gRPC would silently replace the socket of a running server."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True
