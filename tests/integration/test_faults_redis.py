"""Faults of Redis while 40 cameras are decided about: no decision fails or is wrong, and the sidecar recovers."""

import time
from collections.abc import Iterator

import grpc
import pytest
from support.clients.fault_load import Load, SessionLoad, stream_names, worst_excess
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.faults import CONNECTION_IS_LOST, FAULTS, LOSE_DATA
from support.redis.proxy import RedisProxy, redis_proxy
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
LIMIT, DEFAULT = 2.0, 1.0
CAMERAS = 40
AWAY, TRACKING = pb.REDIS_STATE_AWAY, pb.REDIS_STATE_TRACKING


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: Valkey) -> Iterator[RedisProxy]:
    """Returns a proxy in front of it."""
    with redis_proxy(server.port) as running:
        yield running


@pytest.fixture(scope="module")
def patient(proxy: RedisProxy) -> Iterator[SidecarProcess]:
    """Returns a sidecar behind the proxy, in which frames wait for their limits. Each test has streams of its own."""
    with sidecar_process(redis_url=proxy.url, fps=DEFAULT, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def sidecar(proxy: RedisProxy) -> Iterator[SidecarProcess]:
    """Returns a sidecar behind the proxy, for all faults one after the other. Each test has streams of its own."""
    with sidecar_process(redis_url=proxy.url, fps=DEFAULT) as sidecar:
        yield sidecar


def fill(server: Valkey, prefix: str, fps: float) -> None:
    """Sets the limit of each stream of a load."""
    with server.client() as client:
        client.hset(KEY, mapping=dict.fromkeys(stream_names(prefix, CAMERAS), str(fps)))


def state_of(sidecar: SidecarProcess, *, wait_for: int | None = None) -> int:
    """Returns the sidecar's Redis state; waits for a state if one is given."""
    with grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)

        def state() -> int:
            return stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120).redis_state

        if wait_for is not None:
            wait_until(lambda: state() == wait_for, f"Redis state {wait_for}")
        return state()


@pytest.mark.parametrize("fault", FAULTS)
def test_decisions_continue(server: Valkey, proxy: RedisProxy, patient: SidecarProcess, fault: str) -> None:
    """No call fails, no stream exceeds its limit, the last known limits hold, and afterwards changes take effect again."""
    state_of(patient, wait_for=TRACKING)
    fill(server, fault, LIMIT)
    with Load(patient.address, prefix=fault, streams=CAMERAS) as load:
        load.wait_for_batches(6)
        begun = time.monotonic()
        with FAULTS[fault](server, proxy):
            if fault in CONNECTION_IS_LOST - {"restarting"}:
                state_of(patient, wait_for=AWAY)
            load.wait_for_batches(12)
            fps_in_force = load.fps_since(begun)
        state_of(patient, wait_for=TRACKING)
        if fault in LOSE_DATA:
            wait_until(lambda: set(load.batches[-1].answer.fps) == {DEFAULT}, "the default, since nothing is set")
        fill(server, fault, LIMIT / 2 + 0.25)
        wait_until(lambda: set(load.batches[-1].answer.fps) == {LIMIT / 2 + 0.25}, "a change after the fault")
        load.wait_for_batches(4)
    load.check(most_fps=LIMIT)
    assert fps_in_force <= {LIMIT, DEFAULT}
    if fault not in {"flushed", "restarting"}:
        assert fps_in_force == {LIMIT}


@pytest.mark.parametrize("fault", ["killed", "flushed", "slow"])
def test_a_session_with_leases_continues(
    server: Valkey, proxy: RedisProxy, sidecar: SidecarProcess, fault: str
) -> None:
    """The sidecar decides every frame that no lease denies, and no stream exceeds its highest limit."""
    prefix = f"session-{fault}"
    state_of(sidecar, wait_for=TRACKING)
    fill(server, prefix, LIMIT)
    with SessionLoad(sidecar.address, prefix=prefix, streams=CAMERAS) as load:
        load.wait_for_batches(12)
        with FAULTS[fault](server, proxy):
            load.wait_for_batches(12)
        state_of(sidecar, wait_for=TRACKING)
        fill(server, prefix, LIMIT)
        load.wait_for_batches(12)
    load.check(most_fps=LIMIT)
    assert set(load.admitted()) == set(stream_names(prefix, CAMERAS))


@pytest.mark.parametrize("fault", ["killed", "stopped", "slow"])
def test_streams_that_are_new_during_a_fault_get_the_default(
    server: Valkey, proxy: RedisProxy, sidecar: SidecarProcess, fault: str
) -> None:
    """A new stream is admitted at once at the default, and gets its own limit when Redis is healthy again."""
    state_of(sidecar, wait_for=TRACKING)
    with grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        with FAULTS[fault](server, proxy):
            if fault != "slow":
                state_of(sidecar, wait_for=AWAY)
            answers = [
                stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=f"new-{fault}-{number}", ts=5.0), timeout=120)
                for number in range(10)
            ]
            assert {(answer.should_process, answer.fps) for answer in answers} == {(True, DEFAULT)}
            assert {answer.stale for answer in answers} == {fault != "slow"}
        with server.client() as client:
            client.hset(KEY, f"new-{fault}-3", "5")
        same = pb.ShouldProcessRequest(stream_name=f"new-{fault}-3", ts=5.0)
        wait_until(lambda: stub.ShouldProcess(same).fps == 5.0, "the stream's own limit")


def test_the_law_notices_a_frame_too_many() -> None:
    """The law that the tests above rest on notices an excess: a bucket of 2.5 frames that starts with one."""
    steady = [float(number) for number in range(10)]
    assert worst_excess(steady, 1.0) == 1.0
    assert worst_excess([*steady, 9.1, 9.2], 1.0) > 2.5
    assert worst_excess([*steady, 12.0, 12.1, 13.0], 1.0) < 2.5
