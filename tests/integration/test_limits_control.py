"""Limits in a real Valkey, and in a cluster, are read and changed with an audit."""

from collections.abc import Iterator

import pytest
import redis
from support.processes.ports import free_port
from support.redis.topologies import cluster, replicated
from support.redis.valkey import Valkey, valkey

from console.control.changes import OTHER_TOOL, Change, Kind, Snapshot
from console.control.connection import Client, connect
from console.control.failures import failure_in_words
from console.control.keys import ControlKeys
from console.control.plan import set_limits
from console.control.store import ConflictError, LimitsControl
from console.control.undo import last_entries, undo
from process.redis_access import RedisAccess
from process.redis_failures import failure_code
from process.redis_url import parse_redis_url

LIMIT, PATTERN, BOOST = Kind
KEYS = ControlKeys()
NOT_UTF_8 = "a\udcff"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tests, which empty it."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def nodes() -> Iterator[str]:
    """The URL of a cluster."""
    with cluster(nodes=3) as running:
        yield running.url


@pytest.fixture(params=["server", "cluster"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of an empty server, and of an empty cluster."""
    url = request.getfixturevalue("server").url if request.param == "server" else request.getfixturevalue("nodes")
    connected = connect(parse_redis_url(url))
    connected.flushall()
    yield connected
    connected.close()


def control(client: Client, who: str = "ann@host") -> LimitsControl:
    """The limits, changed by a person."""
    return LimitsControl(client, KEYS, who=who, tool="fpsctl")


def test_changes_are_made_and_noted(client: Client) -> None:
    """Each change is in its hash, and all of them are one change in the audit."""
    changes = [
        Change(LIMIT, "cam1", "", "2"),
        Change(LIMIT, NOT_UTF_8, "", "3"),
        Change(PATTERN, "cam*", "", "4"),
        Change(BOOST, "cam1", "", "9 2000.000"),
    ]
    limits = control(client)
    limits.apply(changes)
    assert limits.snapshot() == Snapshot({"cam1": "2", NOT_UTF_8: "3"}, {"cam*": "4"}, {"cam1": "9 2000.000"})
    assert limits.of(["cam1", "none"]) == Snapshot({"cam1": "2"}, {"cam*": "4"}, {"cam1": "9 2000.000"})
    entries = list(limits.audit())
    assert {entry.change for entry in entries} == set(changes)
    assert {(entry.who, entry.tool, entry.batch) for entry in entries} == {("ann@host", "fpsctl", entries[0].batch)}
    assert [entry.until for entry in entries if entry.change.kind is BOOST] == [2000.0]
    assert abs(limits.now() - entries[0].at) < 600.0
    limits.apply([Change(LIMIT, "cam1", "2", "")])
    assert "cam1" not in limits.snapshot().limits
    assert len(list(limits.audit(most=3))) == 3


def test_a_change_between_reading_and_changing_is_a_conflict(client: Client) -> None:
    """Nothing is changed then, and nothing is noted."""
    limits = control(client)
    plan = set_limits(["cam1", "cam2"], 2.0, limits.snapshot(), limits.now())
    client.hset(KEYS.config_key, "cam2", "7")
    with pytest.raises(ConflictError) as caught:
        limits.apply(plan.changes)
    assert caught.value.names == ("cam2",)
    assert limits.snapshot().limits == {"cam2": "7"}
    assert list(limits.audit()) == []


def test_an_undo_takes_back_the_last_change(client: Client) -> None:
    """By the audit in Redis."""
    limits = control(client)
    client.hset(KEYS.config_key, mapping={"a": "1", "b": "bad"})
    before = limits.snapshot()
    limits.apply(set_limits(["a", "b", "c"], 2.0, before, limits.now()).changes)
    entries = last_entries(limits.audit(), who="ann@host")
    limits.apply(undo(entries, limits.snapshot()).changes)
    assert limits.snapshot() == before


def test_changes_by_others_are_noticed(client: Client) -> None:
    """Once; what was there before anybody looked isn't a change, nor is the end of a boost."""
    limits = control(client)
    client.hset(KEYS.config_key, mapping={"old": "1", "gone": "1"})
    client.hset(KEYS.boosts, "old", "9 5.0")
    assert limits.notice_others(limits.snapshot()) == []
    limits.apply([Change(LIMIT, "ours", "", "2")])
    client.hset(KEYS.config_key, "old", "3")
    client.hdel(KEYS.config_key, "gone")
    client.hdel(KEYS.boosts, "old")
    expected = [Change(LIMIT, "gone", "1", ""), Change(LIMIT, "old", "1", "3")]
    assert limits.notice_others(limits.snapshot()) == expected
    assert limits.notice_others(limits.snapshot()) == []
    assert [(entry.tool, entry.change) for entry in limits.audit()][:2] == [
        (OTHER_TOOL, expected[1]),
        (OTHER_TOOL, expected[0]),
    ]


def test_a_change_by_others_is_noted_before_one_of_ours(client: Client) -> None:
    """Although nobody has looked in between."""
    limits = control(client)
    limits.apply([Change(LIMIT, "early", "", "1")])
    limits.notice_others(limits.snapshot())
    limits.apply([Change(LIMIT, "cam", "", "1"), Change(BOOST, "cam", "", "9 5.0")])
    client.hset(KEYS.config_key, "cam", "2")
    client.hdel(KEYS.boosts, "cam")
    limits.apply([Change(LIMIT, "cam", "2", "3"), Change(BOOST, "cam", "", "9 6.0")])
    found = [(entry.tool, entry.change) for entry in limits.audit(most=3)]
    assert sorted(found) == [
        ("fpsctl", Change(BOOST, "cam", "", "9 6.0")),
        ("fpsctl", Change(LIMIT, "cam", "2", "3")),
        (OTHER_TOOL, Change(LIMIT, "cam", "1", "2")),
    ]
    assert limits.notice_others(limits.snapshot()) == []


def test_the_first_change_of_all_is_noticed(client: Client) -> None:
    """After a look at an empty Redis."""
    limits = control(client)
    assert limits.notice_others(limits.snapshot()) == []
    client.hset(KEYS.config_key, "cam", "1")
    assert limits.notice_others(limits.snapshot()) == [Change(LIMIT, "cam", "", "1")]


def test_a_change_by_a_tool_is_not_taken_for_one_by_others(server: Valkey) -> None:
    """Although it happens between the readings of the one that looks."""
    with connect(parse_redis_url(server.url)) as client:
        client.flushall()
        limits = control(client)
        client.hset(KEYS.config_key, "cam", "1")
        limits.notice_others(limits.snapshot())
        looked = limits.snapshot()
        limits.apply([Change(LIMIT, "cam", "1", "2")])
        limits.notice_others(looked)
        assert [entry.tool for entry in limits.audit()] == ["fpsctl"]
        assert limits.notice_others(limits.snapshot()) == []


def test_many_changes_are_made_in_parts(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the audit is read a page at a time."""
    monkeypatch.setattr("console.control.store.MOST_AT_ONCE", 10)
    monkeypatch.setattr("console.control.store.PAGE", 7)
    with connect(parse_redis_url(server.url)) as client:
        client.flushall()
        limits = control(client)
        names = [f"cam{number}" for number in range(25)]
        limits.apply(set_limits(names, 2.0, limits.snapshot(), limits.now()).changes)
        assert limits.of(names).limits == dict.fromkeys(names, "2")
        assert len(last_entries(limits.audit())) == 25
        assert len(list(limits.audit(most=9))) == 9
        changes = [Change(LIMIT, name, "2", "3") for name in names]
        client.hset(KEYS.config_key, "cam15", "9")
        with pytest.raises(ConflictError) as caught:
            limits.apply(changes)
        assert (caught.value.names, caught.value.made) == (("cam15",), 10)


def test_the_master_that_sentinels_name_is_used() -> None:
    """The first Sentinel of the URL doesn't exist."""
    with replicated() as running, connect(parse_redis_url(running.url)) as client:
        control(client).apply([Change(LIMIT, "cam", "", "2")])
        assert control(client).snapshot().limits == {"cam": "2"}


@pytest.mark.parametrize("denied", ["-xadd", "-hset", "-hdel", "-hget", "%R~stream_fps_configs:seen", "type"])
def test_a_refused_change_changes_nothing(server: Valkey, denied: str) -> None:
    """Neither the limits nor the audit, whichever permission is missing."""
    with connect(parse_redis_url(server.url)) as admin:
        admin.flushall()
        rules = ["+@all", denied] if denied.startswith("-") else ["+@all"]
        if denied.startswith("%"):
            admin.execute_command(
                "ACL SETUSER part on nopass resetkeys ~stream_fps_configs", "~*:audit", "~*:boosts", denied
            )
            admin.execute_command("ACL SETUSER part", "~*:patterns", *rules)
        else:
            admin.execute_command("ACL SETUSER part on nopass allkeys", *rules)
        admin.hset(KEYS.config_key, "gone", "1")
        if denied == "type":
            admin.set(KEYS.audit, "text")
        with connect(parse_redis_url(server.url.replace("//", "//part@"))) as client, pytest.raises(redis.RedisError):
            control(client).apply([Change(LIMIT, "cam", "", "2"), Change(LIMIT, "gone", "1", "")])
        admin.execute_command("ACL DELUSER part")
        assert admin.hgetall(KEYS.config_key) == {"gone": "1"}
        assert denied == "type" or not admin.exists(KEYS.audit)
        assert not admin.exists(KEYS.seen)


def test_failures_are_named(server: Valkey) -> None:
    """With what to do."""
    with connect(parse_redis_url(server.url)) as client:
        client.flushall()
        client.set(KEYS.patterns, "text")
        client.acl_setuser("nobody", enabled=True, nopass=True, commands=["+ping"])
        client.config_set("maxmemory", "1")
        reading = control(client)
        assert reading.snapshot() == Snapshot(unread=frozenset({Kind.PATTERN}))
        assert [problem.partition(" isn't")[0] for problem in reading.problems] == [KEYS.patterns]
        with pytest.raises(redis.RedisError) as wrong_type:
            reading.apply([Change(Kind.PATTERN, "cam*", "", "2")])
        with pytest.raises(redis.RedisError) as full:
            control(client).apply([Change(LIMIT, "cam", "", "2")])
        client.config_set("maxmemory", "0")
        client.delete(KEYS.patterns)
    codes = [failure_code(wrong_type.value), failure_code(full.value)]
    for url in (server.url.replace("//", "//nobody@"), server.url.replace("//", "//nobody2:x@")):
        with connect(parse_redis_url(url)) as client, pytest.raises(redis.RedisError) as denied:
            control(client).apply([Change(LIMIT, "cam", "", "2")])
        codes.append(failure_code(denied.value))
    assert codes == ["WRONGTYPE", "OOM", "NOPERM", "WRONGPASS"]
    assert "docs/redis-acl.md" in failure_in_words(redis.exceptions.NoPermissionError("denied"))[1]
    nowhere = parse_redis_url(f"redis://127.0.0.1:{free_port()}")
    with connect(nowhere, RedisAccess()) as client, pytest.raises(redis.RedisError) as gone:
        control(client).snapshot()
    assert failure_in_words(gone.value)[0].startswith("Redis is unreachable")
