"""Sessions and leases with real sidecars, Valkey and processes. The assertions are about events, not times."""

import itertools
import os
import signal
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from support.clients.counting import CountingClient
from support.processes import programs
from support.processes.ports import free_port
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.client.session import REPORT_S
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
SILENCE_S = 4 * REPORT_S


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as server:
        yield server


@pytest.fixture
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """Returns a sidecar at the default of 1 fps with an empty Redis."""
    with server.client() as client:
        client.flushall()
    with sidecar_process(redis_url=server.url) as sidecar:
        yield sidecar


@pytest.fixture
def client(sidecar: SidecarProcess) -> Iterator[CountingClient]:
    """Yields a client with a session."""
    client = CountingClient(sidecar.address)
    yield client
    client.close()


def told(sidecar: SidecarProcess) -> dict[str, pb.StreamStatus]:
    """Returns a stream's status in ListStreams."""
    with grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        return {stream.stream_name: stream for stream in stub.ListStreams(pb.ListStreamsRequest()).streams}


def metric(sidecar: SidecarProcess, name: str) -> float:
    """Returns the value of a metric without labels."""
    text = urllib.request.urlopen(f"http://{sidecar.http}/metrics").read().decode()
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


@pytest.mark.parametrize(
    ("field", "before", "after"), [("cam", "0", "30"), ("cam", "0", "inf"), ("cam", "0.5", "30"), ("*", "0.5", "30")]
)
def test_a_raise_acts_without_a_question(
    server: Valkey, client: CountingClient, field: str, before: str, after: str
) -> None:
    """The lease denies frame after frame until the change is pushed; the client asks only about the admitted frame."""
    with server.client() as redis:
        redis.hset(KEY, field, before)
        if field == "*":  # a push for other streams isn't caused by a stream's first frame
            wait_until(lambda: client.limit("settled") == float(before), "the change")
        client.decide(("cam", 1.0))
        client.decide(("cam", 1.1))
        client.decided.clear()
        for _ in range(100):
            client.decide(("cam", 1.1))
        assert client.decided == {"lease": 100}
        redis.hset(KEY, field, after)
        client.until(("cam", 1.1), Reason.ADMITTED)
    assert client.decided["sidecar"] == 1


def test_a_pause_acts_on_frames_under_a_lease(server: Valkey, client: CountingClient) -> None:
    """The frames are denied before and after, but the reason changes to PAUSED, also for who has no frame to ask about."""
    client.decide(("cam", 1.0))
    assert client.decide(("cam", 1.1)) == [Reason.TOO_SOON]
    assert client.limiter.which_are_paused(["cam"]) == set()
    with server.client() as redis:
        redis.hset(KEY, "cam", "0")
        wait_until(lambda: client.limiter.which_are_paused(["cam"]) == {"cam"}, "the pause")
        client.until(("cam", 1.1), Reason.PAUSED)
        redis.hdel(KEY, "cam")
        client.until(("cam", 1.1), Reason.TOO_SOON)


def test_clients_that_share_a_stream_learn_of_each_other(sidecar: SidecarProcess, client: CountingClient) -> None:
    """A frame that the other client's admission made late is no longer too soon, and a restarted clock applies to both."""
    other = CountingClient(sidecar.address)
    assert client.decide(("cam", 10.0)) == [Reason.ADMITTED]
    assert client.decide(("cam", 10.5)) == [Reason.TOO_SOON]
    assert other.decide(("cam", 11.0)) == [Reason.ADMITTED]
    client.until(("cam", 10.5), Reason.LATE)
    assert client.decide(("cam", 11.5)) == [Reason.TOO_SOON]
    other.until(("cam", 5.0), Reason.ADMITTED)  # not before one second has passed
    client.until(("cam", 5.5), Reason.TOO_SOON)
    client.until(("cam", 6.5), Reason.ADMITTED)
    other.close()


@pytest.fixture
def soon_silent(server: Valkey) -> Iterator[SidecarProcess]:
    """Yields a sidecar in which a stream counts as silent after the time of four reports."""
    with server.client() as redis:
        redis.flushall()
    with sidecar_process(redis_url=server.url, constants={"sidecar.deciding.stream.SILENCE_S": SILENCE_S}) as sidecar:
        yield sidecar


def test_list_streams_counts_what_leases_denied(soon_silent: SidecarProcess) -> None:
    """Counters are exact after a report; a stream whose frames are all denied by leases isn't silent."""
    client = CountingClient(soon_silent.address)
    ts = (number / 100 for number in itertools.count(100))
    for _ in range(250):
        client.decide(("cam", next(ts)))
    assert client.decided["lease"] > 240

    def decided() -> int:
        (status,) = client.told().values()
        return status.admitted + status.denied

    wait_until(lambda: decided() == 250, "the report")
    status = client.told()["cam"]
    assert (status.admitted, status.denied) == (3, 247)
    assert status.last_reason == pb.REASON_TOO_SOON
    asked = client.decided["sidecar"]
    reports: dict[int, float] = {}
    """What each report brought the counter to, and the rate then."""

    def reported() -> bool:
        client.decide(("cam", 3.4))
        (status,) = client.stub.ListStreams(pb.ListStreamsRequest()).streams
        reports.setdefault(status.denied, status.achieved_fps)
        return (len(reports) - 2) * REPORT_S > SILENCE_S

    wait_until(reported, "reports for longer than after which a stream counts as silent", every_s=0.1)
    assert client.decided["sidecar"] == asked
    assert min(reports.values()) > 0.0
    wait_until(lambda: client.told()["cam"].achieved_fps == 0.0, "silence")
    client.close()


def test_a_killed_sidecar_ends_leases_and_its_successor_starts_fresh(server: Valkey) -> None:
    """The client notices without asking, paces locally, and then opens a session with the successor."""
    with server.client() as redis:
        redis.flushall()
        redis.hset(KEY, "off", "0")
    port = free_port()
    with sidecar_process(redis_url=server.url, port=port, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        client = CountingClient(sidecar.address)
        client.decide(("cam", 1.0), ("off", 1.0))
        assert client.leases() == 2
        sidecar.kill()
        wait_until(lambda: client.leases() == 0, "the leases end")
    client.decided.clear()
    assert client.decide(("cam", 1.5), ("off", 2.0), ("cam", 2.0)) == [
        Reason.TOO_SOON,
        Reason.PAUSED,
        Reason.ADMITTED,
    ]
    assert client.decided == {"local": 3}
    with sidecar_process(redis_url=server.url, port=port, constants=LIMITS_ARE_WAITED_FOR):
        wait_until(lambda: not client.limiter.sidecar_unreachable, "the sidecar is back")
        assert client.decide(("cam", 3.0), ("off", 3.0)) == [Reason.ADMITTED, Reason.PAUSED]
        assert client.decide(("cam", 3.5), ("off", 4.0)) == [Reason.TOO_SOON, Reason.PAUSED]
        assert client.decided == {"local": 3, "sidecar": 2, "lease": 2}
    client.close()


def test_a_frozen_sidecar_is_noticed_though_all_frames_are_leased(sidecar: SidecarProcess) -> None:
    """The client notices by unanswered reports; when the sidecar continues, a new session opens."""
    client = CountingClient(sidecar.address, deadline=0.5)
    client.decide(("cam", 1.0))
    os.kill(sidecar.pid, signal.SIGSTOP)
    wait_until(
        lambda: client.decide(("cam", 1.5)) == [Reason.TOO_SOON] and client.limiter.sidecar_unreachable,
        "the freeze is noticed",
    )
    os.kill(sidecar.pid, signal.SIGCONT)
    wait_until(lambda: not client.limiter.sidecar_unreachable, "the sidecar is back")
    client.until(("cam", 1.5), Reason.TOO_SOON)
    client.close()


def test_the_sidecar_shuts_down_under_open_sessions(sidecar: SidecarProcess, client: CountingClient) -> None:
    """It ends at once, not after the grace period; the client paces locally."""
    client.decide(("cam", 1.0))
    sidecar.terminate()
    assert sidecar.wait() == 0
    assert "forced=False" in sidecar.logs()
    wait_until(lambda: client.leases() == 0, "the leases end")
    assert client.decide(("cam", 2.0)) == [Reason.ADMITTED]
    assert client.limiter.sidecar_unreachable


def test_a_killed_client_leaves_no_session(sidecar: SidecarProcess) -> None:
    """Neither a killed client nor one that exits without closing leaves a session, and neither hangs."""
    for end, code in (("kill", -signal.SIGKILL), ("exit", 0)):
        # What the interpreter does at the very end belongs to an exit.
        done = programs.run("support.clients.abrupt_client", sidecar.address, end, fresh=end == "exit")
        assert (done.returncode, done.stderr) == (code, "")
        wait_until(lambda: metric(sidecar, "sidecar_sessions") == 0.0, "the session ends")
    assert "Traceback" not in sidecar.logs()


def test_closed_clients_leave_no_session(sidecar: SidecarProcess) -> None:
    """A closing client's last report arrives before its session ends."""
    clients = [CountingClient(sidecar.address) for _ in range(3)]
    assert metric(sidecar, "sidecar_sessions") == 3.0
    for number, client in enumerate(clients):
        client.decide((f"cam{number}", 1.0))
        client.decide((f"cam{number}", 1.1))
        client.close()
    wait_until(lambda: metric(sidecar, "sidecar_sessions") == 0.0, "the sessions end")
    assert [status.denied for status in told(sidecar).values()] == [1, 1, 1]


def test_a_worker_processes_every_frame_in_shadow_mode(server: Valkey) -> None:
    """A sidecar with --shadow grants no leases and admits all frames, while its counters show what it would deny."""
    with sidecar_process("--shadow", redis_url=server.url) as sidecar:
        client = CountingClient(sidecar.address)
        frames = [("shadowed", 100.0 + index / 30) for index in range(30)]
        assert client.decide(*frames) == [Reason.ADMITTED] * 30
        assert client.decide(("shadowed", 101.0)) == [Reason.ADMITTED]
        assert client.decided["lease"] == 0
        (status,) = client.stub.ListStreams(pb.ListStreamsRequest()).streams
        assert (status.admitted, status.denied) == (2, 29)
        client.limiter.close()
        client.channel.close()


def test_invalid_bytes_in_a_session_are_the_clients_fault(sidecar: SidecarProcess) -> None:
    """Bytes that aren't a message end the session with INVALID_ARGUMENT, and no traceback is logged."""
    with grpc.insecure_channel(sidecar.address) as channel:
        call = channel.stream_stream("/handcounter.ratelimit.v1.RateLimitService/ShouldProcessSession")
        with pytest.raises(grpc.RpcError) as refused:
            list(call(iter([b"\xff\xff\xff"]), timeout=10))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "isn't a message" in refused.value.details()
