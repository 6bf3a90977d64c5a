"""Channels: the same options for all clients, with TLS and without."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.tls import Authority
from support.waiting import wait_until

from handcounter.client import CHANNEL_OPTIONS, RateLimiter, Reason, open_channel, tls_credentials
from handcounter.client.testing import FakeSidecar
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar is next door, whatever http_proxy says."""
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with FakeSidecar() as sidecar, open_channel(sidecar.address) as channel:
        request = pb.ShouldProcessRequest(stream_name="cam", ts=1.0)
        assert RateLimitServiceStub(channel).ShouldProcess(request, timeout=60.0).should_process


def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    """For a sidecar in the same pod."""
    with (
        FakeSidecar(address=f"unix:{tmp_path}/fps.sock") as sidecar,
        RateLimiter(sidecar.address, default_fps=1.0, deadline=60.0) as limiter,
    ):
        assert limiter.wait_ready(60.0)
        assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
    assert sidecar.requests == [[("cam", 1.0)]]


def test_credentials_are_read_from_files(tmp_path: Path) -> None:
    """The CA alone, or also a certificate of the client's own; a missing file is an error. Real handshakes: test_tls_grpc."""
    authority = Authority(tmp_path)
    own = authority.sign("own")
    for credentials in (
        tls_credentials(authority.certificate),
        tls_credentials(authority.certificate, own.certificate, own.key),
    ):
        open_channel("127.0.0.1:1", credentials).close()
    with pytest.raises(FileNotFoundError):
        tls_credentials(tmp_path / "missing")


def test_the_backoff_is_short() -> None:
    """A restarted sidecar is found within a second."""
    options = dict(CHANNEL_OPTIONS)
    assert options["grpc.max_reconnect_backoff_ms"] <= 500
    assert options["grpc.initial_reconnect_backoff_ms"] <= options["grpc.max_reconnect_backoff_ms"]


@contextlib.contextmanager
def refusals() -> Iterator[tuple[str, list[None]]]:
    """An address at which every connection is closed at once, and an item for each."""
    accepted: list[None] = []

    def refuse() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.close()
                accepted.append(None)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", accepted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_lost_sidecar_is_looked_for_more_often_than_by_default() -> None:
    """By the fourth attempt of a channel with gRPC's default backoff, 5 s, one of ours has made a dozen."""
    with (
        refusals() as (address, ours),
        refusals() as (default_address, defaults),
        open_channel(address) as channel,
        grpc.insecure_channel(default_address) as default,
    ):
        for each in (channel, default):
            each.unary_unary("/service/Method").future(b"", wait_for_ready=True, timeout=120)
        wait_until(lambda: len(defaults) >= 4, "attempts at gRPC's default backoff")
        assert len(ours) >= 2 * len(defaults)
