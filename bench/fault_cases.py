"""The cases of bench.faults: faults of Redis, of clients and of the clock, and controls in which nothing happens."""

import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from redis.client import PubSub
from support.clients.fault_load import stream_names
from support.processes.programs import repository_environment
from support.processes.stepped_clock import SteppedClock
from support.redis.faults import FAULTS, Fault
from support.redis.proxy import RedisProxy, redis_proxy
from support.redis.topologies import SERVICE, Replicated, answered, plain_client, replicated
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from bench.fault_clients import KINDS

KEY = "stream_fps_configs"
PROBE = "probe"
"""A stream outside of the loads, with the same limit."""
PROMOTED = "+switch-master"
"""The message that a Sentinel publishes when a replica was promoted."""
DEADLINE_S = 60.0
STARTS = 5
KILLED_CLIENTS = 3
STEPS_S = (3600.0, -3600.0, -3601.0, 86_400.0)

# Keeps its session open and a call in progress; prints a line when the first was answered.
_CLIENT = """
import sys, time
import grpc
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb, rate_limit_pb2_grpc
stub = rate_limit_pb2_grpc.RateLimitServiceStub(grpc.insecure_channel(sys.argv[1]))
names = [f"theirs-{number}" for number in range(100)]
def requests():
    while True:
        yield pb.ShouldProcessSessionRequest(stream_names=names)
        time.sleep(0.5)
for answer in stub.ShouldProcessSession(requests()):
    stub.ShouldProcessBatch.future(pb.ShouldProcessBatchRequest(stream_names=names))
    print("calling", flush=True)
"""


class Case(Protocol):
    """A set-up of Redis, and the fault that it is exposed to."""

    @property
    def url(self) -> str:
        """Returns the value for --redis-url."""

    @property
    def environment(self) -> dict[str, str]:
        """Returns additional environment variables for the sidecar."""

    @property
    def heals_itself(self) -> bool:
        """Whether Redis is healthy again before the fault's block ends."""

    def prepare(self, address: str) -> None:
        """Prepares the fault; the address is the sidecar's."""

    def happens(self) -> AbstractContextManager[None]:
        """Keeps the fault up for the length of the block."""

    def wait_until_healed(self) -> None:
        """Waits until Redis is healthy again."""

    def fill(self, fps: float) -> None:
        """Sets the limit of every stream."""


class OneServer:
    """One server behind a proxy."""

    heals_itself = False

    def __init__(self, server: Valkey, proxy: RedisProxy, fault: Fault) -> None:
        self.environment: dict[str, str] = {}
        self._server = server
        self._proxy = proxy
        self._fault = fault

    @property
    def url(self) -> str:
        """Returns the URL of the proxy."""
        return self._proxy.url

    def prepare(self, address: str) -> None:
        """Does nothing."""

    def happens(self) -> AbstractContextManager[None]:
        """Applies the fault."""
        return self._fault(self._server, self._proxy)

    def wait_until_healed(self) -> None:
        """Returns at once: Redis is healthy when the block ends."""

    def fill(self, fps: float) -> None:
        """Sets the limit of every stream."""
        set_limits(self._server.port, fps)


class ClientsKilled(OneServer):
    """Other clients of the sidecar are killed during calls. They start before the measured time."""

    def __init__(self, server: Valkey, proxy: RedisProxy) -> None:
        super().__init__(server, proxy, nothing)
        self._clients: list[subprocess.Popen[str]] = []

    def prepare(self, address: str) -> None:
        """Starts the clients."""
        command = [sys.executable, "-c", _CLIENT, address]
        for _ in range(KILLED_CLIENTS):
            client = subprocess.Popen(command, env=repository_environment(), stdout=subprocess.PIPE, text=True)
            self._clients.append(client)
        for client in self._clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "calling\n"

    @contextlib.contextmanager
    def happens(self) -> Iterator[None]:
        """Kills the clients one after the other."""
        for client in self._clients:
            client.kill()
            client.wait()
            time.sleep(0.1)
        yield
        self.close()

    def close(self) -> None:
        """Ends the remaining clients."""
        for client in self._clients:
            client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()
        self._clients.clear()


class ClockStepped(OneServer):
    """The clock of the sidecar's machine is stepped back and forth."""

    def __init__(self, server: Valkey, proxy: RedisProxy, clock: SteppedClock) -> None:
        super().__init__(server, proxy, nothing)
        self.environment = clock.environment
        self._clock = clock

    @contextlib.contextmanager
    def happens(self) -> Iterator[None]:
        """Steps the clock, and corrects it at the end."""
        for offset_s in STEPS_S:
            self._clock.step_to(offset_s)
            time.sleep(0.1)
        yield
        self._clock.step_to(0.0)


class FailingOver:
    """A master that is killed, a replica, and a Sentinel that promotes it. The killed server returns as a replica."""

    heals_itself = True

    def __init__(self, redis: Replicated) -> None:
        self.environment: dict[str, str] = {}
        self._redis = redis
        self._news: PubSub | None = None

    @property
    def url(self) -> str:
        """Returns the URL of the Sentinel."""
        return self._redis.url

    def prepare(self, address: str) -> None:  # noqa: ARG002
        """Waits until the Sentinel has a replica that it can promote."""
        wait_until(answered(self._can_fail_over), "a healthy replica")

    @contextlib.contextmanager
    def happens(self) -> Iterator[None]:
        """Kills the master. The bench listens for the new master instead of asking for it, which would cost CPU time."""
        port = self._redis.master_port()
        dead = next(each for each in (self._redis.master, self._redis.replica) if each.port == port)
        with plain_client(self._redis.sentinel_port) as sentinel, sentinel.pubsub() as self._news:
            self._news.subscribe(PROMOTED)
            assert self._heard("subscribe")
            dead.kill()
            yield
        dead.restart()
        with dead.client() as client:
            client.config_set("repl-diskless-load", "on-empty-db")  # leaves no file behind
            client.replicaof("127.0.0.1", self._redis.master_port())

    def wait_until_healed(self) -> None:
        """Waits for the Sentinel's message that the replica was promoted."""
        assert self._heard("message"), "no new master"

    def fill(self, fps: float) -> None:
        """Sets the limit of every stream."""
        set_limits(self._redis.master_port(), fps)

    def _heard(self, kind: str) -> bool:
        assert self._news is not None
        message = self._news.get_message(timeout=DEADLINE_S)
        return message is not None and message["type"] == kind

    def _can_fail_over(self) -> bool:
        with plain_client(self._redis.sentinel_port, decode_responses=True) as sentinel:
            (replica,) = sentinel.sentinel_slaves(SERVICE)
            return bool(replica["flags"] == "slave" and replica["master-link-status"] == "ok")


class AnotherFailingOver(FailingOver):
    """The control of "failing over": servers that the sidecar doesn't know fail over."""

    def __init__(self, redis: Replicated, own: Valkey) -> None:
        super().__init__(redis)
        self._own = own

    @property
    def url(self) -> str:
        """Returns the URL of the sidecar's own, healthy Redis."""
        return self._own.url

    def fill(self, fps: float) -> None:
        """Sets the limit of every stream."""
        set_limits(self._own.port, fps)


def set_limits(port: int, fps: float) -> None:
    """Sets the limit of every stream of the loads, and of the probe."""
    names = itertools.chain([PROBE], *map(stream_names, KINDS))
    with plain_client(port, retry=None) as client:
        client.hset(KEY, mapping=dict.fromkeys(names, str(fps)))


@contextlib.contextmanager
def nothing(_server: Valkey, _proxy: RedisProxy) -> Iterator[None]:
    """The control: shows how much two equal stretches of time differ without a fault."""
    yield


@contextlib.contextmanager
def another_restarting(_server: Valkey, _proxy: RedisProxy) -> Iterator[None]:
    """The control of "restarting": another Redis, which the sidecar doesn't know, is started as often."""
    with valkey() as other:
        for _ in range(STARTS - 1):
            other.restart()
        yield


@contextlib.contextmanager
def one_server(fault: Fault) -> Iterator[Case]:
    """Returns the case of one server with a fault."""
    with valkey() as server, redis_proxy(server.port) as proxy:
        yield OneServer(server, proxy, fault)


@contextlib.contextmanager
def failing_over() -> Iterator[Case]:
    """Returns the case of a lost master."""
    with replicated() as redis:
        yield FailingOver(redis)


@contextlib.contextmanager
def another_failing_over() -> Iterator[Case]:
    """Returns the control for a lost master."""
    with replicated() as redis, valkey() as own:
        yield AnotherFailingOver(redis, own)


@contextlib.contextmanager
def clients_killed() -> Iterator[Case]:
    """Returns the case of killed clients."""
    with valkey() as server, redis_proxy(server.port) as proxy:
        case = ClientsKilled(server, proxy)
        try:
            yield case
        finally:
            case.close()


@contextlib.contextmanager
def clock_stepped() -> Iterator[Case]:
    """Returns the case of a stepped clock."""
    with tempfile.TemporaryDirectory(prefix="clock-") as folder, valkey() as server, redis_proxy(server.port) as proxy:
        yield ClockStepped(server, proxy, SteppedClock(Path(folder)))


CONTROL = "nothing"
CASES: dict[str, Callable[[], AbstractContextManager[Case]]] = {
    CONTROL: lambda: one_server(nothing),
    "another restarting": lambda: one_server(another_restarting),
    **{name: lambda fault=fault: one_server(fault) for name, fault in FAULTS.items()},  # type: ignore[misc]
    "another failing over": another_failing_over,
    "failing over": failing_over,
    "clients killed": clients_killed,
    "clock stepped": clock_stepped,
}
