"""Limits by pattern and boosts, with real sidecars: on a Valkey, on a cluster, and through leases and watchers."""

import time
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
import redis
from support.limits import boost_value
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.topologies import Cluster, answered, cluster
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.client import FpsSource, LimitsWatch, RateLimiter, Reason
from handcounter.pacing.limits import Boost, boosts_key, patterns_key
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
PATTERNS, BOOSTS, AUDIT = patterns_key(KEY), boosts_key(KEY), KEY + ":audit"
TIMEOUT_S = 60.0
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """Returns a sidecar with a default of 7."""
    with sidecar_process(redis_url=server.url, fps=7, constants=LIMITS_ARE_WAITED_FOR) as running:
        yield running


@pytest.fixture
def client(server: Valkey) -> Iterator["redis.Redis"]:
    """Returns a client of an empty Valkey."""
    with server.client() as connected:
        connected.flushall()
        yield connected


def metric(http: str, name: str) -> float:
    """Returns the value of a metric."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=120) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)


class Asker:
    """A client of a sidecar."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)

    def fps(self, stream_name: str) -> float:
        """Returns the limit in force."""
        return self.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=stream_name), timeout=120).fps

    def status(self, stream_name: str) -> pb.StreamStatus:
        """Returns what ListStreams says."""
        self.fps(stream_name)
        return self.stub.ListStreams(pb.ListStreamsRequest(name_prefix=stream_name), timeout=120).streams[0]

    def info(self) -> pb.GetServerInfoResponse:
        """Returns what GetServerInfo says."""
        return self.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120)

    def wait(self, stream_name: str, fps: float) -> None:
        """Waits for a limit."""
        wait_until(answered(lambda: self.fps(stream_name) == fps), f"{stream_name} has {fps}")


@pytest.fixture
def asker(sidecar: SidecarProcess, client: "redis.Redis") -> Iterator[Asker]:
    """Returns a client of the sidecar, which has forgotten what other tests set."""
    with grpc.insecure_channel(sidecar.address) as channel:
        asker = Asker(channel)
        asker.wait("new", 7.0)
        wait_until(lambda: (asker.info().pattern_count, asker.info().boost_count) == (0, 0))
        yield asker


def boost(fps: float, seconds: float) -> str:
    """Returns a boost that lasts so long from now."""
    return boost_value(Boost(fps, time.time() + seconds))


def test_which_limit_is_in_force(asker: Asker, client: "redis.Redis") -> None:
    """The default, the wildcard, a pattern, a longer one, the field, the boost, a pause: each comes before those before it."""
    name = "floor1-door"
    for fps, source, change in (
        (7.0, pb.FPS_SOURCE_DEFAULT, lambda: None),
        (6.0, pb.FPS_SOURCE_WILDCARD, lambda: client.hset(KEY, "*", "6")),
        (5.0, pb.FPS_SOURCE_PATTERN, lambda: client.hset(PATTERNS, "floor*", "5")),
        (4.0, pb.FPS_SOURCE_PATTERN, lambda: client.hset(PATTERNS, "floor1-*", "4")),
        (3.0, pb.FPS_SOURCE_OVERRIDE, lambda: client.hset(KEY, name, "3")),
        (9.0, pb.FPS_SOURCE_BOOST, lambda: client.hset(BOOSTS, name, boost(9, HOUR_S))),
        (0.0, pb.FPS_SOURCE_OVERRIDE, lambda: client.hset(KEY, name, "0")),
        (9.0, pb.FPS_SOURCE_BOOST, lambda: client.hdel(KEY, name)),
        (4.0, pb.FPS_SOURCE_PATTERN, lambda: client.delete(BOOSTS)),
        (5.0, pb.FPS_SOURCE_PATTERN, lambda: client.hdel(PATTERNS, "floor1-*")),
        (6.0, pb.FPS_SOURCE_WILDCARD, lambda: client.delete(PATTERNS)),
    ):
        change()
        asker.wait(name, fps)
        status = asker.status(name)
        assert (status.fps_source, status.stale) == (source, False)
        assert bool(status.pattern) is (source == pb.FPS_SOURCE_PATTERN)
        assert (status.boost_until > time.time()) is (source == pb.FPS_SOURCE_BOOST)


def test_what_is_shown(asker: Asker, client: "redis.Redis", sidecar: SidecarProcess) -> None:
    """The pattern, a value that isn't valid, the counts in GetServerInfo and the metrics."""
    client.hset(PATTERNS, mapping={"shown*": "2", "*-x": "x", "bad ": "1"})
    client.hset(BOOSTS, mapping={"other": boost(9, HOUR_S), "over": boost(9, -1.0)})
    asker.wait("shown1", 2.0)
    assert (asker.status("shown1").pattern, asker.status("a-x").invalid_value) == ("shown*", "x")
    client.hset(PATTERNS, "shown*", "two")
    wait_until(lambda: asker.status("shown1").invalid_value == "two")
    assert asker.fps("shown1") == 2.0
    wait_until(lambda: (asker.info().pattern_count, asker.info().boost_count) == (1, 1))
    assert metric(sidecar.http, 'sidecar_patterns{state="in_force"}') == 1.0
    assert metric(sidecar.http, 'sidecar_patterns{state="invalid"}') == 2.0
    assert metric(sidecar.http, 'sidecar_patterns{state="refused"}') == 1.0
    assert metric(sidecar.http, 'sidecar_boosts{state="in_force"}') == 1.0
    logs = sidecar.logs()
    assert "pattern changed" in logs
    assert "ignoring values that aren't valid" in logs


def test_a_boost_ends_by_itself(asker: Asker, client: "redis.Redis", sidecar: SidecarProcess) -> None:
    """At its time: for decisions, watchers and the log, without another change in Redis."""
    client.hset(KEY, "boosted", "3")
    asker.wait("boosted", 3.0)
    with LimitsWatch(sidecar.address) as watch:
        watch.watch("boosted")
        assert watch.wait_told(TIMEOUT_S)
        until = time.time() + 1.5
        client.hset(BOOSTS, "boosted", boost_value(Boost(11.0, until)))
        wait_until(lambda: watch.limit("boosted").fps == 11.0)
        told = watch.limit("boosted")
        assert (told.source, told.boost_until) == (FpsSource.BOOST, until)
        assert (told.after_boost.fps, told.after_boost.source) == (3.0, FpsSource.OVERRIDE)
        wait_until(lambda: watch.limit("boosted").source is FpsSource.OVERRIDE and asker.fps("boosted") == 3.0)
        assert time.time() >= until
        assert client.hget(KEY, "boosted") in (b"3", "3")
    wait_until(lambda: "old_fps=11 new_fps=3 source=override" in sidecar.logs(), "the log line")


def test_a_new_pattern_reaches_leases_and_watchers(
    asker: Asker, client: "redis.Redis", sidecar: SidecarProcess
) -> None:
    """A lease that denies for a thousand seconds is dropped, and who watches is told."""
    client.hset(PATTERNS, "leased-*", "0.001")
    asker.wait("leased-1", 0.001)
    with RateLimiter(sidecar.address, default_fps=7.0) as limiter, LimitsWatch(sidecar.address) as watch:
        watch.watch("leased-2")
        assert watch.wait_told(TIMEOUT_S)
        assert watch.limit("leased-2").pattern == "leased-*"
        ts = 1000.0
        wait_until(lambda: limiter.decide([("leased-2", ts)]) in ([Reason.ADMITTED], [Reason.DUPLICATE]))
        assert limiter.decide([("leased-2", ts + 1.0)]) == [Reason.TOO_SOON]
        client.hset(PATTERNS, "leased-*", "1000")
        wait_until(lambda: limiter.decide([("leased-2", ts + 2.0)]) == [Reason.ADMITTED], "the lease is dropped")
        wait_until(lambda: watch.limit("leased-2").fps == 1000.0)
        client.hset(PATTERNS, "leased-2", "0")
        wait_until(lambda: limiter.decide([("leased-2", ts + 3.0)]) == [Reason.PAUSED], "the pause")
        wait_until(lambda: watch.limit("leased-2").fps == 0.0)


def test_the_log_of_changes_is_none_of_its_business(
    asker: Asker, client: "redis.Redis", sidecar: SidecarProcess
) -> None:
    """Entries of the audit stream, whose key has the same prefix, cause no reading."""
    client.hset(KEY, "cam1", "3")
    asker.wait("cam1", 3.0)
    before = metric(sidecar.http, "sidecar_redis_pushes_total")
    for number in range(20):
        client.xadd(AUDIT, {"kind": "limit", "name": f"cam{number}"})
    client.hset(KEY, "cam1", "4")
    asker.wait("cam1", 4.0)
    assert metric(sidecar.http, "sidecar_redis_pushes_total") == before + 1


def test_too_many_patterns_are_refused_by_name(asker: Asker, client: "redis.Redis", sidecar: SidecarProcess) -> None:
    """The service stays up, with the first thousand."""
    client.hset(PATTERNS, mapping={f"many-{number:04}*": "2" for number in range(1001)})
    asker.wait("many-0999x", 2.0)
    assert asker.fps("many-1000x") == 7.0
    wait_until(lambda: metric(sidecar.http, 'sidecar_patterns{state="refused"}') == 1.0)
    wait_until(lambda: "'many-1000*': 'at most 1000 are in force'" in sidecar.logs())


def test_in_fleet_scope_claims_are_made_at_these_limits(server: Valkey, client: "redis.Redis") -> None:
    """A pattern's, and a boost's: the frame after an admission is admitted or denied by them."""
    client.hset(PATTERNS, "fleet-*", "0.001")
    flags = ("--scope", "fleet", "--claim-wait", "5")
    with (
        sidecar_process(*flags, redis_url=server.url, fps=7, constants=LIMITS_ARE_WAITED_FOR) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(channel)

        def decide(ts: float) -> pb.ShouldProcessResponse:
            return asker.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="fleet-1", ts=ts), timeout=120)

        wait_until(lambda: decide(1000.0).reason in (pb.REASON_ADMITTED, pb.REASON_DUPLICATE))
        assert (decide(1001.0).reason, decide(1001.0).fps) == (pb.REASON_TOO_SOON, 0.001)
        client.hset(BOOSTS, "fleet-1", boost(100, HOUR_S))
        wait_until(lambda: decide(1002.0).reason in (pb.REASON_ADMITTED, pb.REASON_DUPLICATE), "the boost")
        assert decide(1003.0).fps_source == pb.FPS_SOURCE_BOOST


# A cluster: each hash on a node of its own.


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """Returns a cluster of three."""
    with cluster() as running:
        yield running


def test_on_a_cluster_each_hash_is_followed_on_its_own_node(nodes: Cluster) -> None:
    """They lie on different nodes; if that of the patterns is lost, the last ones stay, and it is said."""
    key = next(
        f"limits{number}"
        for number in range(1000)
        if len({nodes.node_of(k.encode()).port for k in (f"limits{number}", *_layers(f"limits{number}"))}) == 3
    )
    patterns, boosts = _layers(key)
    flags = ("--config-key", key)

    holders = {which: nodes.node_of(which.encode()) for which in (key, patterns, boosts)}

    def hset(which: str, field: str, value: str) -> None:
        nodes.ask(holders[which], "HSET", which, field, value)

    hset(key, "cam1", "3")
    hset(patterns, "floor*", "4")
    with (
        sidecar_process(*flags, redis_url=nodes.url, fps=7, constants=LIMITS_ARE_WAITED_FOR) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(channel)
        assert [asker.fps(name) for name in ("cam1", "floor1", "cam2")] == [3.0, 4.0, 7.0]
        hset(patterns, "floor*", "5")
        asker.wait("floor1", 5.0)
        hset(boosts, "cam1", boost(9, HOUR_S))
        asker.wait("cam1", 9.0)
        hset(key, "cam2", "2")
        asker.wait("cam2", 2.0)
        assert asker.info().redis_state == pb.REDIS_STATE_TRACKING
        holders[patterns].kill()
        wait_until(lambda: asker.info().redis_state == pb.REDIS_STATE_AWAY, "the loss")
        assert asker.status("floor1").stale
        assert asker.fps("floor1") == 5.0
        hset(boosts, "cam1", boost(8, HOUR_S))
        asker.wait("cam1", 8.0)


def _layers(key: str) -> tuple[str, str]:
    return patterns_key(key), boosts_key(key)
