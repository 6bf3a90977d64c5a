"""The gRPC server's addresses: plain text for this machine, TLS for others, replaceable certificates."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.processes import programs
from support.processes.ports import free_port
from support.processes.programs import repository_environment
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.tls import Authority, Pair
from support.waiting import wait_until

from handcounter.pacing.bounds import MAX_REQUEST_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def signed(authority) -> Pair:
    """Returns the server's certificate and key."""
    return authority.sign("server")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    """Returns another CA."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def pair(signed, tmp_path) -> Pair:
    """Returns a copy of the server's certificate and key, which a test may replace."""
    return Pair(*(Path(shutil.copy(path, tmp_path)) for path in signed))


def flags(pair: Pair, *more: object) -> list[str]:
    return list(map(str, ("--tls-cert", pair.certificate, "--tls-key", pair.key, *more)))


def ask(channel: grpc.Channel) -> bool:
    """Asks for one decision; raises RpcError if the server can't be reached."""
    with channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        return stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=1.0), timeout=120).fps == 1.0


def secure(port: int, authority: Authority, client: Pair | None = None) -> grpc.Channel:
    """Opens a channel that trusts the CA and presents the client's certificate."""
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        client.key.read_bytes() if client else None,
        client.certificate.read_bytes() if client else None,
    )
    return grpc.secure_channel(f"localhost:{port}", credentials)


class Serving:
    """A sidecar that listens on all interfaces and on loopback."""

    def __init__(self, process: SidecarProcess, port: int) -> None:
        self.process = process
        self.port = port


@pytest.fixture
def serving(request, pair, authority) -> Iterator[Serving]:
    """Yields a sidecar with a certificate; the parameter says whether it requires client certificates."""
    port = free_port()
    more = ["--tls-client-ca", authority.certificate] if getattr(request, "param", False) else []
    with sidecar_process(*flags(pair, "--listen", f"0.0.0.0:{port}", *more)) as process:
        yield Serving(process, port)


def test_other_addresses_speak_tls(serving, authority):
    """An address that others can reach is served over TLS only; loopback stays plain text."""
    assert ask(secure(serving.port, authority))
    assert ask(grpc.insecure_channel(serving.process.address))
    with pytest.raises(grpc.RpcError) as refused:
        ask(grpc.insecure_channel(f"127.0.0.1:{serving.port}"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_strangers_leave_no_lines_of_another_format(pair, authority):
    """Plain text or garbage at a TLS port adds nothing but JSON to a JSON log."""
    port = free_port()
    words = flags(pair, "--listen", f"0.0.0.0:{port}", "--log-format", "json")
    with sidecar_process(*words, fresh=True) as process:  # gRPC reads its log settings when it is imported
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                ask(grpc.insecure_channel(f"127.0.0.1:{port}"))
            with socket.create_connection(("127.0.0.1", port), timeout=120) as stranger:
                stranger.sendall(b"hello world, this is no TLS at all\r\n\r\n")
                stranger.settimeout(120)
                while stranger.recv(1024):
                    pass
        assert ask(secure(port, authority))
        process.terminate()
        assert process.wait() == 0
        lines = process.logs().splitlines()
    assert [json.loads(line)["message"] for line in lines][-1] == "shut down"


LISTEN_NOWHERE = """
from sidecar.__main__ import main
main(["--http", "", "--listen", "unix:/nowhere/fps.sock"])
"""


RUN_NOTHING = """
import contextlib
from worker.__main__ import main
with contextlib.suppress(SystemExit):
    main(["unknown"])
import worker.hand_counter
"""


@pytest.mark.parametrize(
    ("program", "libraries"),
    [(LISTEN_NOWHERE, "pydantic_settings, redis.asyncio"), (RUN_NOTHING, "pydantic_settings, cv2")],
    ids=["sidecar", "worker"],
)
def test_grpc_is_silent_unless_asked(program, libraries):
    """The log lines of gRPC are turned off before its import, unless the operator sets GRPC_VERBOSITY."""
    code = f"""
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_VERBOSITY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Finder())
import {libraries}  # most of what takes time until gRPC is imported, once for both
for given in ({{}}, {{"GRPC_VERBOSITY": "debug"}}):
    if not os.fork():
        os.environ.update(given)
{textwrap.indent(program, " " * 8)}
        os._exit(1)
    os.wait()
"""
    environment = {name: value for name, value in repository_environment().items() if name != "GRPC_VERBOSITY"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["NONE", "debug"], done.stderr


def test_client_checks_the_server(serving, stranger):
    """A client that trusts another CA rejects the server."""
    with pytest.raises(grpc.RpcError) as refused:
        ask(secure(serving.port, stranger))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("serving", [True], indirect=True)
def test_clients_show_a_certificate(serving, authority, stranger):
    """With --tls-client-ca only clients with a certificate of that CA are served."""
    assert ask(secure(serving.port, authority, authority.sign("client")))
    for client in (None, stranger.sign("client")):
        with pytest.raises(grpc.RpcError) as refused:
            ask(secure(serving.port, authority, client))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def served_name(port: int, authority: Authority) -> str:
    """Returns the common name of the certificate that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.certificate)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=120) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        (((_, name),),) = connection.getpeercert()["subject"]
    return name


def test_replaced_certificate_is_served(serving, pair, authority):
    """The next connection gets the new certificate; a half-replaced pair leaves the old one in use."""
    assert served_name(serving.port, authority) == "server"
    renewed = authority.sign("renewed")

    shutil.copy(renewed.certificate, pair.certificate)
    assert served_name(serving.port, authority) == "server"
    assert served_name(serving.port, authority) == "server"
    shutil.copy(renewed.key, pair.key)

    wait_until(lambda: served_name(serving.port, authority) == "renewed", "the renewed certificate is served")
    assert ask(secure(serving.port, authority))
    assert serving.process.logs().count("keeping the current certificate") == 1


def test_a_briefly_missing_certificate_disturbs_no_connection(serving, pair, authority):
    """Files that are missing for a moment while they are replaced don't disturb new connections."""
    pair.certificate.unlink()
    assert served_name(serving.port, authority) == "server"


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", ""])
def test_open_plain_text_is_refused(address):
    """Without a certificate or --insecure, an open address ends the start with exit code 2 and one line."""
    done = programs.run("sidecar", "--listen", f"{address}:{free_port()}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--insecure" in done.stderr


def test_insecure_is_enough():
    """With --insecure an open address is served in plain text."""
    port = free_port()
    with sidecar_process("--insecure", "--listen", f"0.0.0.0:{port}"):
        assert ask(grpc.insecure_channel(f"127.0.0.1:{port}"))


def test_too_many_calls_at_once_are_refused():
    """Calls beyond --max-concurrent-calls get RESOURCE_EXHAUSTED at once; the others continue."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with (
        sidecar_process("--max-concurrent-calls", "3") as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watching = [watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        for call in watching:
            next(call)
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=1.0), timeout=120)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watching.pop().cancel()

        def served() -> bool:
            try:
                return stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=1.0), timeout=120).fps > 0
            except grpc.RpcError:
                return False

        wait_until(served, "the ended call makes room")
        for call in watching:
            call.cancel()


def test_largest_valid_batch_fits_and_larger_calls_are_refused():
    """4096 frames with the longest names are decided; a larger request gets RESOURCE_EXHAUSTED."""
    with sidecar_process() as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        names = [f"{number:06d}" + "\U0001f590" * 250 for number in range(4096)]
        request = pb.ShouldProcessBatchRequest(stream_names=names, ts=[1.0] * len(names))
        assert sum(stub.ShouldProcessBatch(request, timeout=120).should_process) == 4096
        with pytest.raises(grpc.RpcError) as refused:
            stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="x" * (MAX_REQUEST_BYTES + 1), ts=1.0), timeout=120)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
