"""Which node of a Redis Cluster serves a hash slot, and clients that follow their slot from node to node.

Everything that a cluster does to its clients is handled here:

- The owners of the slots are asked for once (CLUSTER SLOTS). A node that answers MOVED names the new owner of a slot, which
  is noted, and the command is sent there. A command that got MOVED or ASK wasn't executed, so it may be sent again.
- While a slot moves, its old node answers ASK for what has gone already: the command is sent to the new one, once. If some
  of a command's keys have gone and others haven't, both answer TRYAGAIN, which the callers repeat as any other error.
- A node that can't be reached is left alone, and commands for its slots fail at once, so that they don't hold up those for
  other nodes. A thread looks after it until it answers again, or until other nodes say that its slots have new owners.
"""

import logging
import threading
import time
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from process.backoff import Backoff
from process.redis_access import RedisAccess
from process.redis_url import Address, RedisUrl
from worker.queue.redis_client import server_client

logger = logging.getLogger(__name__)

SLOTS = 16_384

MOST_REDIRECTIONS = 5
"""A command is sent to so many nodes at most."""

ASK_AGAIN_S = 0.2
"""Until the owners are asked for again if no node has answered."""


class Nodes:
    """The nodes of one cluster. For any thread.

    Args:
        url: some of its nodes.
        access: what connections need besides the URL.
    """

    def __init__(self, url: RedisUrl, access: RedisAccess | None = None) -> None:
        self._url = url
        self._access = access or RedisAccess()
        self._clients: dict[Address, redis.Redis] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._down: set[Address] = set()
        """Nodes that a thread looks after."""
        self._asked_at = float("-inf")
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._closed = threading.Event()

    def node(self, slot: int) -> redis.Redis:
        """Returns a client of the slot's node; raises redis.ConnectionError if none is known, or if it can't be reached."""
        owner = self._owners[slot]
        if owner is None:
            self._ask_once()
            owner = self._owners[slot]
            if owner is None:
                raise redis.ConnectionError("no node of the cluster serves the hash slot")
        if owner in self._down:
            raise redis.ConnectionError(f"the node {owner} can't be reached")
        return self.client(owner)

    def client(self, address: Address) -> redis.Redis:
        """Returns a client of a node."""
        with self._lock:
            client = self._clients.get(address)
            if client is None:
                client = self._clients[address] = server_client(address, self._url, self._access)
            return client

    def moved(self, slot: int, host: str, port: int) -> None:
        """Notes that a node named the owner of a slot."""
        known = self._owners[slot]
        self._owners[slot] = Address(host or (known.host if known else self._url.addresses[0].host), port)

    def failed(self, client: redis.Redis) -> None:
        """Notes that a node couldn't be reached."""
        with self._lock:
            address = next((each for each, known in self._clients.items() if known is client), None)
            if address is None or address in self._down or self._closed.is_set():
                return
            self._down.add(address)
        threading.Thread(target=self._look_after, args=(address,), name=f"node-{address}", daemon=True).start()

    def close(self) -> None:
        """Closes all connections."""
        self._closed.set()
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _look_after(self, address: Address) -> None:
        delays = Backoff(first_s=0.05, longest_s=1.0)
        while not self._closed.wait(delays.next()):
            self._ask()
            if address not in self._owners or self._answers(address):
                break
        with self._lock:
            self._down.discard(address)

    def _answers(self, address: Address) -> bool:
        try:
            self._slots(address)
        except redis.RedisError:
            return False
        return True

    def _ask_once(self) -> None:
        """Asks for the owners, unless that was done a moment ago."""
        with self._asking:
            if time.monotonic() >= self._asked_at + ASK_AGAIN_S:
                self._ask()
                self._asked_at = time.monotonic()

    def _ask(self) -> None:
        """Asks the nodes in turn which of them serves which slot, those first that can be reached."""
        known = dict.fromkeys([*(each for each in self._owners if each), *self._url.addresses])
        for address in sorted(known, key=self._down.__contains__):
            try:
                slots = self._slots(address)
            except redis.RedisError as error:
                logger.debug("a node doesn't say who serves the slots", extra={"node": address, "error": str(error)})
                continue
            self._owners = _owners(address, slots)
            return

    def _slots(self, address: Address) -> list[list[Any]]:
        client = server_client(address, self._url, self._access)  # its pool is not that of the commands
        client.response_callbacks.clear()
        try:
            slots: list[list[Any]] = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        finally:
            client.close()
        return slots


def _owners(asked: Address, slots: list[list[Any]]) -> list[Address | None]:
    """Reads the answer to CLUSTER SLOTS. A node that doesn't know its own host is the one that was asked."""
    owners: list[Address | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in slots:
        owners[first : last + 1] = [Address(host.decode() if host else asked.host, port)] * (last + 1 - first)
    return owners


class SlotClient(redis.Redis):
    """A client of the node that serves one hash slot, whichever that is. Each command is executed at most once."""

    def __init__(self, nodes: Nodes, key: str) -> None:
        """Takes a key in the slot."""
        # Its own pool is never used. Without driver_info=None, redis-py would read its version from a file for it.
        super().__init__(driver_info=None)
        self._nodes = nodes
        self._slot = key_slot(key.encode())

    @property
    def node(self) -> redis.Redis:
        """A client of the node that serves the slot now; raises redis.ConnectionError if it can't be reached."""
        return self._nodes.node(self._slot)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends a command to the slot's node, and to the one that this one names."""
        node, ask = self.node, False
        for attempt in range(MOST_REDIRECTIONS):
            try:
                return _asking(node, args, options) if ask else node.execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except AskError as error:
                if attempt == MOST_REDIRECTIONS - 1 or error.slot_id != self._slot:  # a key that isn't in the slot
                    raise
                ask = not isinstance(error, MovedError)
                node = self._follow(error)
            except (redis.ConnectionError, redis.TimeoutError):
                self._nodes.failed(node)
                raise
        raise AssertionError("unreachable")

    def failed(self, node: redis.Redis) -> None:
        """Notes that a node couldn't be reached."""
        self._nodes.failed(node)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        """Returns a pipeline to the slot's node; it follows no redirection."""
        return self.node.pipeline(transaction, shard_hint)

    def close(self) -> None:
        """Does nothing: the connections belong to the nodes."""

    def _follow(self, error: AskError) -> redis.Redis:
        """Returns a client of the node that a redirection names."""
        if isinstance(error, MovedError):
            self._nodes.moved(self._slot, error.host, error.port)
            return self.node
        return self._nodes.client(Address(error.host, error.port))


def _asking(node: redis.Redis, words: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Sends a command to a node that its slot is moving to."""
    pipeline = node.pipeline(transaction=False)
    pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]
    pipeline.execute_command(*words, **options)  # type: ignore[no-untyped-call]
    reply = pipeline.execute(raise_on_error=False)[1]
    if isinstance(reply, redis.RedisError):
        raise reply
    return reply
