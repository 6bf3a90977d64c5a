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
from support.processes.sidecars import sidecar_process
from support.processes.workers import KEYS, accounting, balance, pending, picture, publish_many, worker
from support.redis.proxy import RedisProxy, redis_proxy
from support.redis.topologies import plain_client
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from process.backoff import Backoff
from worker.publish.frame_queue import FrameQueue
from worker.publish.source import Captured
from worker.queue.redis_client import connect

KEY = "stream_fps_configs"


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
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        ts = iter(range(1000, 10**9, 1000))

        def ask() -> pb.ShouldProcessResponse:
            return stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=next(ts)), timeout=60)

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
    with (
        plain_client(pair.old.port) as old,
        plain_client(pair.new.port) as new,
        _publishing(pair.proxy.url) as published,
    ):
        publish_many(old, 100)
        with worker(queue, seconds=0.002) as process:
            wait_until(lambda: accounting(old).get("counted", 0) >= 100)
            pair.fail_over(old_follows=old_follows)
            already = published()
            wait_until(lambda: published() >= already + 5)
            wait_until(lambda: pending(new) == 0 and accounting(new).get("counted", 0) >= 105)
            assert process.terminate() == 0
        assert balance(new) == pending(new) == 0
        assert "Redis works again" in process.log


def _clients(client: object) -> list[object]:
    """Returns the connections through the proxy and others, but the one that asks and those of replication."""
    return [each for each in client.client_list(_type="normal") if each["cmd"] != "client|list"]  # type: ignore[attr-defined]


@contextlib.contextmanager
def _publishing(url: str) -> Iterator[types.FunctionType]:
    """Publishes a frame of one stream each 50 ms; yields what returns how many were published."""
    stop, number = threading.Event(), [0]

    def run() -> None:
        with connect(url) as client:
            frames = FrameQueue(client, KEYS, "live", payload_ttl=600.0, max_queue=10_000, backoff=Backoff())
            while not stop.wait(0.05):
                number[0] += frames.publish(Captured(1000.0 + number[0], picture()), stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: number[0]  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
