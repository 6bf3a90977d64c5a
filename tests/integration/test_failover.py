"""A failover behind an address that follows the master, as a name in DNS, a Kubernetes Service or a proxy does.

Old connections stay at the old master, which has become a replica of the new one or of nobody. Only a new connection
reaches the new master.
"""

import contextlib
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.frame_queue import FrameQueue
from support.processes.sidecars import sidecar_process
from support.processes.workers import KEYS, accounting, balance, drained, pending, picture, publish_many, worker
from support.redis.proxy import RedisProxy, redis_proxy
from support.redis.topologies import SERVICE, answered, cluster, plain_client, replicated
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.fleet.claims import state_key
from worker.publish.source import Captured
from worker.queue.redis_client import connect

KEY = "stream_fps_configs"


class Ask:
    """Asks a sidecar about frames that are never too soon."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        self._ts = iter(range(1000, 10**9, 1000))

    def __call__(self) -> pb.ShouldProcessResponse:
        request = pb.ShouldProcessRequest(stream_name="cam", ts=next(self._ts))
        return self._stub.ShouldProcess(request, timeout=60)


class Pair:
    """A master and its replica, behind an address that leads to the master."""

    def __init__(self, old: Valkey, new: Valkey, proxy: RedisProxy) -> None:
        self.old, self.new, self.proxy = old, new, proxy
        with plain_client(new.port) as client:
            client.replicaof("127.0.0.1", old.port)  # type: ignore[arg-type]
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")

    def fail_over(self, *, old_follows: int | None = None) -> None:
        """Promotes the replica; the old master follows it, or a server that isn't there. Then the address moves."""
        with plain_client(self.old.port) as old, plain_client(self.new.port) as new:
            old.execute_command("WAIT", 1, 10_000)
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", old_follows or self.new.port)  # type: ignore[arg-type]
        self.proxy.move_to(self.new.port)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        valkey("--repl-diskless-sync-delay", "0") as old,
        valkey("--repl-diskless-sync-delay", "0") as new,
        redis_proxy(old.port) as proxy,
    ):
        yield Pair(old, new, proxy)


NOBODY = 1
"""A port at which no server listens."""


@pytest.mark.parametrize("old_follows", [None, NOBODY])
@pytest.mark.parametrize("scope", ["pod", "fleet"])
def test_the_sidecar_reads_from_the_new_master(pair: Pair, scope: str, old_follows: int | None) -> None:
    """Limits that are set after the failover are in force, though the old connection would go on for ever."""
    with (
        sidecar_process("--claim-wait", "5", "--scope", scope, redis_url=pair.proxy.url) as process,
        grpc.insecure_channel(process.address) as channel,
        plain_client(pair.old.port) as old,
        plain_client(pair.new.port) as new,
    ):
        ask = Ask(channel)
        old.hset(KEY, "cam", 7)
        wait_until(lambda: ask().fps == 7.0)
        pair.fail_over(old_follows=old_follows)
        new.hset(KEY, "cam", 8)
        wait_until(lambda: (answer := ask()).fps == 8.0 and not answer.stale)
        if old_follows == NOBODY:
            wait_until(lambda: not _clients(old))


def test_a_replica_that_lost_its_master_leaves_the_limits_stale(pair: Pair) -> None:
    """As long as the address leads to a replica of nobody, the limits stay in force, marked as stale."""
    with (
        sidecar_process(redis_url=pair.proxy.url) as process,
        grpc.insecure_channel(process.address) as channel,
        plain_client(pair.old.port) as old,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        old.hset(KEY, "cam", 0)
        ask = pb.ShouldProcessRequest(stream_name="cam")
        wait_until(lambda: stub.ShouldProcess(ask).reason == pb.REASON_PAUSED)
        old.replicaof("127.0.0.1", NOBODY)  # type: ignore[arg-type]
        wait_until(lambda: stub.ShouldProcess(ask).stale)
        assert stub.ShouldProcess(ask).reason == pb.REASON_PAUSED
        wait_until(lambda: "isn't in step with its master" in process.logs())
        old.replicaof("NO", "ONE")
        wait_until(lambda: not stub.ShouldProcess(ask).stale)


def test_a_replica_in_step_may_be_read_from(pair: Pair) -> None:
    """On purpose, for instance one on the same node: changes reach it, and are pushed."""
    with (
        sidecar_process(redis_url=pair.new.url) as process,
        grpc.insecure_channel(process.address) as channel,
        plain_client(pair.old.port) as old,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        for fps in (7.0, 8.0):
            old.hset(KEY, "cam", fps)
            wait_until(lambda fps=fps: stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam")).fps == fps)
        assert stub.GetServerInfo(pb.GetServerInfoRequest()).redis_state == pb.REDIS_STATE_TRACKING


@pytest.mark.parametrize("old_follows", [None, NOBODY])
def test_worker_and_publisher_write_to_the_new_master(pair: Pair, old_follows: int | None, tmp_path: Path) -> None:
    """Everything published before and after the failover is counted exactly once, on the new master."""
    queue = types.SimpleNamespace(url=pair.proxy.url, folder=tmp_path)
    with plain_client(pair.old.port) as old, plain_client(pair.new.port) as new:
        publish_many(old, 100)
        with worker(queue, seconds=0.002) as process:
            with _publishing(pair.proxy.url) as published:
                wait_until(lambda: accounting(old).get("counted", 0) >= 100)
                pair.fail_over(old_follows=old_follows)
                already = published()
                wait_until(lambda: published() >= already + 5)
                wait_until(lambda: accounting(new).get("counted", 0) >= 105)
            # A stop releases what still waits for its turn, so all has to be counted before it.
            wait_until(lambda: drained(new))
            assert process.terminate() == 0
        assert balance(new) == pending(new) == 0
        assert "Redis works again" in process.log


@pytest.mark.parametrize(("scope", "lives"), [("pod", True), ("fleet", False)])
def test_the_sidecar_follows_sentinels_from_a_demoted_master(scope: str, lives: bool) -> None:
    """One that lives on as a replica, or one that hangs, comes back as a master, and is demoted only then."""
    with (
        replicated(fast_demotion=True) as servers,
        sidecar_process("--claim-wait", "5", "--scope", scope, redis_url=servers.url) as process,
        grpc.insecure_channel(process.address) as channel,
        plain_client(servers.sentinel_port) as sentinel,
    ):
        ask = Ask(channel)
        with plain_client(servers.master.port) as old:
            old.hset(KEY, "cam", 7)
        wait_until(lambda: (answer := ask()).fps == 7.0 and not answer.stale)
        if lives:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
        else:
            servers.master.pause()
        wait_until(answered(lambda: servers.master_port() == servers.replica.port), "the replica is the master")
        servers.master.resume()
        with plain_client(servers.replica.port) as new, plain_client(servers.master.port) as old:
            wait_until(answered(lambda: new.role()[0] == b"master"))
            new.hset(KEY, "cam", 8)
            wait_until(lambda: (answer := ask()).fps == 8.0 and not answer.stale)
            wait_until(answered(lambda: old.role()[0] == b"slave"))
            wait_until(answered(lambda: not _clients(old)), "the sidecar has left the old master")


@pytest.mark.parametrize("key", [KEY.encode(), state_key("cam")])
def test_the_sidecar_follows_a_cluster_from_a_demoted_node(key: bytes) -> None:
    """The old node keeps its connections. Limits are read, and claims are made, at the new one."""
    with (
        cluster() as nodes,
        nodes.replica_of(nodes.node_of(key)) as replica,
        sidecar_process("--claim-wait", "5", "--scope", "fleet", redis_url=nodes.url) as process,
        grpc.insecure_channel(process.address) as channel,
    ):
        ask = Ask(channel)
        nodes.ask(nodes.node_of(KEY.encode()), "HSET", KEY, "cam", 7)
        wait_until(lambda: (answer := ask()).fps == 7.0 and not answer.stale)
        nodes.fail_over(replica)
        wait_until(lambda: nodes.node_of(key) is replica, "the nodes know the new master")
        nodes.ask(nodes.node_of(KEY.encode()), "HSET", KEY, "cam", 8)
        wait_until(lambda: (answer := ask()).fps == 8.0 and not answer.stale)
        with plain_client(nodes.node_of(state_key("cam")).port) as client:
            version = client.get(state_key("cam"))
            wait_until(lambda: not ask().stale and client.get(state_key("cam")) != version)


def test_worker_and_publisher_follow_sentinels(tmp_path: Path) -> None:
    """Everything published before and after the failover of a living master is counted once."""
    with (
        replicated(fast_demotion=True) as servers,
        plain_client(servers.master.port) as old,
        plain_client(servers.replica.port) as new,
        plain_client(servers.sentinel_port) as sentinel,
    ):
        publish_many(old, 100)
        queue = types.SimpleNamespace(url=servers.url, folder=tmp_path)
        with worker(queue, seconds=0.002) as process:
            with _publishing(servers.url):
                wait_until(lambda: accounting(old).get("counted", 0) >= 100)
                sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
                became = answered(lambda: servers.master_port() == servers.replica.port)
                wait_until(became, "the replica is the master")
                copied = new.xinfo_stream(KEYS.frames)["entries-added"]
                wait_until(answered(lambda: accounting(new).get("counted", 0) >= copied + 5), "both follow")
            wait_until(answered(lambda: drained(new)))
            assert process.terminate() == 0
        assert balance(new) == pending(new) == 0
        assert "Traceback" not in process.log


def _clients(client: object) -> list[object]:
    """Returns the connections, but for the one that asks and those of replication and of Sentinels."""
    listed = client.client_list(_type="normal")  # type: ignore[attr-defined]
    return [each for each in listed if each["cmd"] != "client|list" and not each["name"].startswith("sentinel-")]


@contextlib.contextmanager
def _publishing(url: str) -> Iterator[types.FunctionType]:
    """Publishes a frame of one stream each 50 ms; yields what returns how many were published."""
    stop, number = threading.Event(), [0]

    def run() -> None:
        with connect(url) as client:
            frames = FrameQueue(client, KEYS, "live")
            while not stop.wait(0.05):
                number[0] += frames.publish(Captured(1000.0 + number[0], picture()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: number[0]  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
