"""Clients that follow their hash slot through a real cluster."""

import contextlib
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import MovedError
from support.redis.topologies import Cluster, cluster
from support.waiting import wait_until

from process.redis_url import parse_redis_url
from worker.queue.cluster import Nodes, SlotClient
from worker.queue.connections import Connections
from worker.queue.exchange import Request, exchange

KEY = "{cam}:a"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster for all tests of the module."""
    with cluster() as running:
        yield running


@pytest.fixture
def connections(nodes: Cluster) -> Iterator[Connections]:
    """Connections to it, which know nothing yet, and an empty slot."""
    with contextlib.closing(Connections(nodes.url)) as opened:
        opened.client(KEY).delete(KEY, "{cam}:b", "{cam}:queue")
        yield opened


def test_a_slot_that_moves_is_followed(nodes: Cluster, connections: Connections) -> None:
    """Whatever a command's reply is made of: before, while it moves, and afterwards."""
    client = connections.client(KEY)
    client.xadd("{cam}:queue", {"a": "1"}, id="1-0")
    client.xgroup_create("{cam}:queue", "group", "0")
    client.xreadgroup("group", "me", {"{cam}:queue": ">"})
    held = client.xpending_range("{cam}:queue", "group", "-", "+", 10)
    source = nodes.node_of(KEY.encode())
    target = nodes.other_than(source)
    nodes.begin_move(KEY.encode(), target)
    nodes.ask(source, "MIGRATE", "127.0.0.1", target.port, "{cam}:queue", 0, 5000)
    moved = client.xpending_range("{cam}:queue", "group", "-", "+", 10)
    assert [each["message_id"] for each in moved] == [each["message_id"] for each in held] == [b"1-0"]
    client.set(KEY, "2")  # a key that wasn't there is made at the new node
    with pytest.raises(redis.ResponseError, match="Multiple keys"):
        client.mget(KEY, "{cam}:b")
    nodes.end_move(KEY.encode(), source, target)
    assert client.get(KEY) == b"2"
    assert client.mget(KEY, "{cam}:b") == [b"2", None]


def test_commands_for_several_slots_go_together(nodes: Cluster, connections: Connections) -> None:
    """And those of a slot that has moved are sent to its new node; the error of one is its own reply."""
    keys = [f"{{{i}}}" for i in range(20)]
    clients = [connections.client(key) for key in keys]
    for reply in exchange([Request(client, ("SET", key, key)) for client, key in zip(clients, keys, strict=True)]):
        assert reply
    moved = keys[3].encode()
    source = nodes.node_of(moved)
    target = nodes.other_than(source)
    nodes.begin_move(moved, target)
    nodes.end_move(moved, source, target)
    replies = exchange([Request(client, ("GET", key)) for client, key in zip(clients, keys, strict=True)])
    assert replies == [key.encode() for key in keys]
    reads = [Request(client, ("GET", key)) for client, key in zip(clients, keys, strict=True)]
    *replies, wrong = exchange([*reads[:4], Request(clients[4], ("LPUSH", keys[4], 1))])
    assert replies == [key.encode() for key in keys[:4]]
    assert str(wrong).startswith("WRONGTYPE")


def test_a_key_elsewhere_changes_nothing(nodes: Cluster, connections: Connections) -> None:
    """An entry may name any key. Its node is the owner of another slot."""
    client = connections.client(KEY)
    client.set(KEY, "1")
    elsewhere = next(key for key in "abcdefgh" if nodes.node_of(key.encode()) is not nodes.node_of(KEY.encode()))
    found, moved = exchange([Request(client, ("GET", KEY)), Request(client, ("GET", elsewhere))])
    assert found == b"1"
    assert isinstance(moved, MovedError)
    assert client.node.get(KEY) == b"1"


def test_a_node_that_hangs_fails_at_once_from_then_on(nodes: Cluster) -> None:
    """Its first command waits; others don't, until it answers again. Other nodes' aren't concerned."""
    known = Nodes(parse_redis_url(nodes.url))
    client = SlotClient(known, KEY)
    other = next(
        SlotClient(known, key) for key in "abcdefgh" if nodes.node_of(key.encode()) is not nodes.node_of(KEY.encode())
    )
    assert client.ping()
    hung = nodes.node_of(KEY.encode())
    hung.pause()
    try:
        with pytest.raises(redis.TimeoutError):
            client.get(KEY)
        for _ in range(1000):  # each of them would take seconds
            with pytest.raises(redis.ConnectionError, match="can't be reached"):
                client.get(KEY)
        assert other.ping()
    finally:
        hung.resume()

    def works() -> bool:
        try:
            client.get(KEY)
        except redis.RedisError:
            return False
        return True

    wait_until(works, "the node is used again")
    known.close()


def test_a_cluster_that_is_away_is_unreachable() -> None:
    """Whoever asks gets an error of the connection, and tries again."""
    with contextlib.closing(Connections("redis+cluster://127.0.0.1:1")) as connections:
        for _ in range(2):
            with pytest.raises(redis.ConnectionError, match="no node of the cluster"):
                connections.client(KEY).get(KEY)
