"""Binding the addresses of a gRPC server, in this process."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.tls import Authority

from sidecar.rpc.listen import ListenError, listen, server_options
from sidecar.tls import TlsFiles


@pytest.fixture
async def server() -> "grpc.aio.Server":
    """A server that isn't started."""
    return grpc.aio.server(options=server_options(1000))


@pytest.fixture
def taken() -> Iterator[str]:
    """An address of 127.0.0.1 on which another socket listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


async def test_the_actual_ports_are_returned(server: "grpc.aio.Server", tmp_path: Path) -> None:
    """Port 0 becomes a free port; other addresses are returned as they are."""
    path = f"unix:{tmp_path}/fps.sock"
    first, second, third = listen(server, ["127.0.0.1:0", path, ":0"], None)
    assert first.startswith("127.0.0.1:")
    assert not first.endswith(":0")
    assert second == path
    assert third.startswith(":")
    assert third != ":0"


async def test_an_address_in_use_is_named(server: "grpc.aio.Server", taken: str) -> None:
    """The reason is the operating system's, which gRPC doesn't pass on."""
    with pytest.raises(ListenError, match=rf"^can't listen on {taken}: Address already in use$"):
        listen(server, [taken], None)


async def test_a_socket_with_a_listener_is_in_use(server: "grpc.aio.Server", tmp_path: Path) -> None:
    """The socket of a running server isn't replaced; one that a killed server left behind is."""
    path = tmp_path / "fps.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ListenError, match="Address already in use"):
            listen(server, [f"unix:{path}"], None)
    assert path.exists()
    assert listen(server, [f"unix:{path}"], None) == [f"unix:{path}"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("unix:/nowhere/fps.sock", "No such file or directory"),
        (f"unix:/tmp/{'x' * 200}", "AF_UNIX path too long"),
        ("192.0.2.1:0", "Cannot assign requested address"),
        ("no.such.host.invalid:0", "not known|resolution"),
    ],
)
async def test_the_reason_is_the_systems(server: "grpc.aio.Server", address: str, reason: str) -> None:
    """An impossible address is an error that says why."""
    with pytest.raises(ListenError, match=reason):
        listen(server, [address], None)


async def test_a_failure_of_grpc_alone_is_an_error_too() -> None:
    """If the system would bind the address, there is no better reason."""

    class Refusing:
        def add_insecure_port(self, address: str) -> int:
            raise RuntimeError(address)

    refusing: Any = Refusing()
    with pytest.raises(ListenError, match="gRPC failed to bind it"):
        listen(refusing, ["127.0.0.1:0"], None)


async def test_tls_is_for_addresses_that_others_can_reach(tmp_path: Path) -> None:
    """With a certificate, loopback and unix sockets stay in plain text."""
    authority = Authority(tmp_path)
    secure, insecure = [], []

    class Recording:
        def add_insecure_port(self, address: str) -> int:
            insecure.append(address)
            return 1

        def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
            assert isinstance(credentials, grpc.ServerCredentials)
            secure.append(address)
            return 2

    recording: Any = Recording()
    files = TlsFiles(*authority.sign("server"))
    addresses = ["0.0.0.0:0", "127.0.0.1:0", f"unix:{tmp_path}/s", ":7"]
    assert listen(recording, addresses, files) == ["0.0.0.0:2", "127.0.0.1:1", f"unix:{tmp_path}/s", ":7"]
    assert (secure, insecure) == (["0.0.0.0:0", "[::]:7"], ["127.0.0.1:0", f"unix:{tmp_path}/s"])
