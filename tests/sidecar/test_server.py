"""The life of the process, in this process: what is served, and the order in which it ends."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import queue
import signal
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.processes.ports import free_port
from support.waiting import until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar import server
from sidecar.__main__ import main
from sidecar.rpc.listen import ListenError
from sidecar.server import Sidecar, serve
from sidecar.settings import SidecarSettings

NO_REDIS = "redis://127.0.0.1:1"


class Running:
    """A sidecar that serves in this process.

    Args:
        task: The serving task; its result is the exit code.
        settings: Those of the sidecar.
    """

    def __init__(self, task: "asyncio.Task[int]", settings: SidecarSettings) -> None:
        self.task = task
        self.settings = settings
        self.address = settings.listen[0]

    async def health(self, address: str = "") -> int:
        """Returns the health of the server."""
        async with grpc.aio.insecure_channel(address or self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=120, wait_for_ready=True)  # type: ignore[attr-defined]
        return int(answer.status)

    async def ask(self) -> pb.ShouldProcessResponse:
        """Asks about the same frame each time."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub: Any = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            request = pb.ShouldProcessRequest(stream_name="cam1", ts=1.0)
            return await stub.ShouldProcess(request, timeout=120, wait_for_ready=True)


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[Running]:
    """Serves on a unix socket, without Redis, until the block ends; ends it by a signal."""
    given = {"listen": [f"unix:{tmp_path}/fps.sock"], "http": "", "redis_url": NO_REDIS, **settings}
    sidecar = Running(asyncio.create_task(serve(SidecarSettings(**given))), SidecarSettings(**given))
    try:
        assert await sidecar.health() == health_pb2.HealthCheckResponse.SERVING
        yield sidecar
    finally:
        if not sidecar.task.done():
            # Before its handlers are there, and after they are gone, the signal would end this process instead.
            handled = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM) if handled else sidecar.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sidecar.task


@pytest.mark.parametrize("scope", ["pod", "fleet"])
async def test_it_serves_without_redis_until_a_signal(tmp_path: Path, scope: str) -> None:
    """Frames are decided in both scopes, and SIGTERM ends the process with exit code 0."""
    async with running(tmp_path, scope=scope) as sidecar:
        assert [(await sidecar.ask()).reason for _ in range(2)] == [pb.REASON_ADMITTED, pb.REASON_DUPLICATE]
        os.kill(os.getpid(), signal.SIGTERM)
        assert await sidecar.task == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_http_and_health_have_their_own_addresses(tmp_path: Path) -> None:
    """/healthz shows the state, and gRPC health is on an address of its own, too."""
    http, probes = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    async with running(tmp_path, http=http, health_listen=probes) as sidecar:
        assert await sidecar.health(probes) == health_pb2.HealthCheckResponse.SERVING

        def get() -> Any:
            with urllib.request.urlopen(f"http://{http}/healthz", timeout=120) as answer:
                return json.load(answer)

        shown = await asyncio.to_thread(get)
    assert (shown["healthy"], shown["fps_table_age_seconds"], shown["streams"]) == (True, None, 0)


async def test_shadow_mode_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sidecar that admits everything says so at its start."""
    caplog.set_level(logging.INFO)
    async with running(tmp_path, shadow=True) as sidecar:
        assert [(await sidecar.ask()).should_process for _ in range(2)] == [True, True]
    messages = [record.message for record in caplog.records if record.name == "sidecar.server"]
    assert messages == ["shadow mode: all frames are admitted", "serving", "shutting down", "shut down"]


async def test_traces_are_exported_when_asked(tmp_path: Path) -> None:
    """With --otlp-endpoint calls are answered through the tracing wrapper, whether or not the collector is reachable."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")
    async with running(tmp_path, otlp_endpoint="http://127.0.0.1:1") as sidecar:
        assert (await sidecar.ask()).should_process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
async def test_each_of_the_signals_ends_it_in_order(tmp_path: Path, name: str) -> None:
    """Also the end of its terminal."""
    number = signal.Signals[name]
    inherited = signal.signal(number, signal.SIG_DFL)  # it may be ignored here, as under nohup
    try:
        async with running(tmp_path) as sidecar:
            os.kill(os.getpid(), number)
            assert await sidecar.task == 0
    finally:
        signal.signal(number, inherited)


async def test_under_nohup_sighup_is_ignored(tmp_path: Path) -> None:
    """A signal that is ignored at the start stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with running(tmp_path) as sidecar:
            os.kill(os.getpid(), signal.SIGHUP)
            assert (await sidecar.ask()).should_process
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_second_signal_cuts_calls(tmp_path: Path) -> None:
    """A call that never sends its request gets the grace period, until the second signal; then the exit code is 1."""
    async with running(tmp_path, grace=3600.0) as sidecar:
        requests: queue.Queue[pb.ShouldProcessRequest | None] = queue.Queue()
        with grpc.insecure_channel(sidecar.address) as channel:
            call = channel.stream_unary("/handcounter.ratelimit.v1.RateLimitService/ShouldProcess")
            open_call = call.future(iter(requests.get, None), wait_for_ready=True)
            ended = threading.Event()
            open_call.add_done_callback(lambda _: ended.set())
            assert await asyncio.to_thread(ask_in_thread, channel) == pb.REASON_ADMITTED
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: not Path(sidecar.address.removeprefix("unix:")).exists(), "no new calls")
            assert not sidecar.task.done()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await sidecar.task == 1
            assert await asyncio.to_thread(ended.wait, 120)
            requests.put(None)


def ask_in_thread(channel: grpc.Channel) -> int:
    """Asks over a channel of the synchronous API; its calls reach the server in the order in which they began."""
    stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
    request = pb.ShouldProcessRequest(stream_name="cam1", ts=1.0)
    return int(stub.ShouldProcess(request, timeout=120, wait_for_ready=True).reason)


@pytest.mark.parametrize("flag", ["listen", "health_listen", "http"])
async def test_an_address_in_use_ends_the_start(tmp_path: Path, flag: str) -> None:
    """The error names the address, and the flag if it isn't that of the service."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        given: dict[str, Any] = {"listen": [f"unix:{tmp_path}/s"], "http": "", "redis_url": NO_REDIS}
        given[flag] = [address] if flag == "listen" else address
        shown = f"--http {address}" if flag == "http" else address
        with pytest.raises(ListenError, match=f"can't listen on {shown}: Address already in use"):
            await serve(SidecarSettings(**given))


@pytest.fixture
def quiet_main(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets main run without lasting effects on this process: its log handler, its environment, its garbage."""
    monkeypatch.setattr("process.logs.set_up", lambda *_: None)
    monkeypatch.setattr("process.logs.silence_grpc", lambda: None)
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quiet_main")
def test_the_program_prints_why_it_cant_listen(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and exit code 1."""
    assert main(["--listen", "unix:/nowhere/fps.sock", "--http", "", "--redis-url", NO_REDIS]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "fps-sidecar: can't listen on unix:/nowhere/fps.sock: No such file or directory"


@pytest.mark.usefixtures("quiet_main")
def test_check_is_another_program(capsys: pytest.CaptureFixture[str]) -> None:
    """--check reads the limits and ends."""
    assert main(["--check", "--redis-url", NO_REDIS]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


async def test_an_invalid_limit_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the stream and the value, so that the operator finds the typo."""
    sidecar = Sidecar(SidecarSettings(redis_url=NO_REDIS))
    sidecar.table.store(["cam1"], [b"fast"])
    assert sidecar.metrics.registry.get_sample_value("sidecar_invalid_fps_values_total") == 1
    (line,) = caplog.records
    assert (vars(line)["stream_name"], vars(line)["value"]) == ("cam1", "fast")


async def test_inactive_streams_are_swept_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limiter is swept until the task is cancelled."""
    sidecar, swept = Sidecar(SidecarSettings(redis_url=NO_REDIS)), []
    monkeypatch.setattr(server, "SWEEP_S", 0.001)
    monkeypatch.setattr(sidecar, "limiter", SimpleNamespace(sweep=lambda: swept.append(True)))
    sweeping = asyncio.create_task(sidecar.sweep())
    await until(lambda: len(swept) > 1, "two sweeps")
    sweeping.cancel()
