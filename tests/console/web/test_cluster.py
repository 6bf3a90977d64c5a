"""The console with a Redis Cluster: the partitions, the limits, the patterns and the boosts on several nodes."""

from collections.abc import Iterator
from urllib.parse import urlencode
from zlib import crc32

import pytest
import redis
from support.console.events import Events
from support.console.processes import ConsoleProcess, console_process
from support.redis.topologies import Cluster, cluster
from support.waiting import wait_until

NAMES = [f"cam{i}" for i in range(12)]
PARTITIONS = 4
# The keys of the limits, patterns and boosts that begin like this are on three nodes.


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="module")
def client(nodes: Cluster) -> Iterator[redis.RedisCluster]:
    opened = redis.RedisCluster.from_url(f"redis://127.0.0.1:{nodes.nodes[0].port}")
    opened.set("{hand_counter}:partitions", PARTITIONS)
    for i in range(PARTITIONS):
        opened.hset(f"{{hand_counter:{i}}}:accounting", mapping={"received": 10, "counted": 4})
        opened.xgroup_create(f"{{hand_counter:{i}}}:frames", "workers", mkstream=True)
    for name in NAMES:
        tag = f"{{hand_counter:{crc32(name.encode()) % PARTITIONS}}}"
        seconds, _ = opened.time(target_nodes=redis.RedisCluster.RANDOM)
        fields = {"stream_name": name, "heard_at": seconds, "counted_at": seconds, "hand_count": 3, "source_fps": 25}
        opened.hset(f"{tag}:stream:{name}", mapping=fields)
        opened.set(f"{tag}:preview:{name}", b"\xff\xd8" + name.encode())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def console(nodes: Cluster, client: redis.RedisCluster) -> Iterator[ConsoleProcess]:
    with console_process("--allow-changes", "--config-key", "c1", redis_url=nodes.url) as running:
        yield running


@pytest.fixture
def events(console: ConsoleProcess) -> Iterator[Events]:
    opened = Events(console)
    yield opened
    opened.close()


def test_the_keys_of_this_test_are_on_several_nodes(nodes: Cluster):
    tags = [f"{{hand_counter:{i}}}".encode() for i in range(PARTITIONS)]
    assert len({nodes.node_of(tag).port for tag in tags}) > 1
    limits = [b"c1", b"c1:patterns", b"c1:boosts"]
    assert len({nodes.node_of(key).port for key in limits}) > 1


def test_streams_of_all_nodes_are_found_with_their_pictures_and_the_accounting(console: ConsoleProcess, events: Events):
    events.until(lambda: all(events.row(name).get("hands") == 3 for name in NAMES))
    for name in NAMES:
        assert console.get(f"/api/picture?{urlencode({'name': name})}") == (200, b"\xff\xd8" + name.encode())
    events.until(lambda: events.sections.get("fleet", {}).get("queue", {}).get("accounting"))
    queue = events.sections["fleet"]["queue"]
    assert (queue["accounting"], queue["partitions"]) == ({"received": 40, "counted": 16}, PARTITIONS)
    assert events.sections["fleet"]["redis"]["nodes"] == 3


def test_limits_patterns_and_boosts_are_pushed_from_their_nodes(events: Events, client: redis.RedisCluster):
    events.until(lambda: events.sections.get("fleet", {}).get("redis", {}).get("tracking"))
    client.hset("c1:patterns", "cam*", "7")
    events.until(lambda: events.row("cam1").get("limit") == 7.0)
    client.hset("c1", "cam1", "3")
    events.until(lambda: events.row("cam1").get("limit") == 3.0)
    client.hset("c1:boosts", "cam1", "9 99999999999")
    events.until(lambda: events.row("cam1").get("limit") == 9.0)
    client.delete("c1", "c1:patterns", "c1:boosts")
    events.until(lambda: events.row("cam1").get("limit_source") == "default")


def test_limits_are_changed(console: ConsoleProcess, client: redis.RedisCluster):
    status, done = console.send("/api/changes", {"action": "set", "names": ["cam2"], "fps": 4})
    assert (status, done["changes"][0]["new"]) == (200, "4")
    assert client.hget("c1", "cam2") == b"4"
    assert console.json("/api/audit")[0]["name"] == "cam2"


def test_limits_that_move_to_another_node_are_followed(nodes: Cluster, events: Events, client: redis.RedisCluster):
    key = b"c1"
    client.hset(key, "cam3", "5")
    events.until(lambda: events.row("cam3").get("limit") == 5.0)
    source = nodes.node_of(key)
    target = nodes.other_than(source)
    nodes.begin_move(key, target)
    nodes.end_move(key, source, target)
    client.hset(key, "cam3", "6")
    events.until(lambda: events.row("cam3").get("limit") == 6.0)


def test_a_node_that_is_lost_is_told_and_ends_nothing(nodes: Cluster, console: ConsoleProcess):
    nodes.node_of(b"c1:patterns").kill()
    wait_until(lambda: console.get("/healthz")[0] == 503, "the console notes the lost node")
    assert console.get("/livez")[0] == 200
    assert console.get("/api/limits")[0] == 200
    assert "Traceback" not in console.log


def test_a_cluster_that_is_away_is_waited_for():
    with console_process("--allow-changes", redis_url="redis+cluster://127.0.0.1:1") as console:
        wait_until(lambda: "Redis can't be read" in console.log, "the console notes that there is no cluster")
        status, answer = console.send("/api/changes", {"action": "set", "names": ["cam"], "fps": 4})
        assert (status, answer["warning"]) == (409, False)
        assert console.get("/api/audit")[0] == 503
        assert "Traceback" not in console.log
