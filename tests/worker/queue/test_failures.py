"""What is said about the errors of a real Valkey."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from support.processes.workers import KEYS, QueueServer
from support.redis.valkey import valkey as new_valkey
from support.waiting import wait_until

from process.redis_failures import failure_code
from worker.queue.failures import failure_in_words, is_rejection
from worker.queue.redis_client import connect

LONG_COMMAND = ("EVALSHA", "0" * 40, "1", *["word"] * 20)
"""A script, the first command that a worker or publisher sends."""


def said(url: str, *command: str) -> tuple[str, str]:
    """Returns what is said about the error that a command gets, and what to do."""
    with connect(url) as client, pytest.raises(redis.RedisError) as caught:
        client.execute_command(*command)
    what, about = failure_in_words(caught.value)
    assert str(caught.value) in about["error"]
    return what, about.get("hint", "")


@contextmanager
def user(valkey: QueueServer, *rules: str) -> Iterator[str]:
    """Creates a user; yields the URL with its name and password."""
    valkey.bytes.execute_command("ACL SETUSER", "somebody", "on", ">SECRET", *rules)
    try:
        yield valkey.url.replace("redis://", "redis://somebody:SECRET@")
    finally:
        valkey.bytes.execute_command("ACL DELUSER", "somebody")


def test_a_missing_password() -> None:
    """However long the command is that Redis refuses."""
    with new_valkey("--requirepass", "secret") as server:
        for command in (("PING",), LONG_COMMAND, ("SET", "a", "x" * 100_000)):
            what, hint = said(server.url, *command)
            assert what == "Redis demands a password"
            assert "--redis-password-file" in hint


def test_a_wrong_password(valkey: QueueServer) -> None:
    """Of a user that exists or not."""
    with user(valkey, "~*", "+@all") as url:
        for wrong in (url.replace("SECRET", "guess"), url.replace("somebody", "nobody")):
            assert said(wrong, "PING")[0] == "Redis rejected the user or the password"


def test_a_missing_permission(valkey: QueueServer) -> None:
    """For a command, for a key, or in a script."""
    with user(valkey, "~other", "+@all", "-xadd") as url:
        for command in (
            ("XADD", KEYS.frames, "*", "a", "b"),
            ("GET", KEYS.frames),
            ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'a', 'b')", "1", "other"),
            ("EVAL", "return redis.call('GET', KEYS[1])", "1", KEYS.frames),
        ):
            what, hint = said(url, *command)
            assert what == "Redis denies this user a permission"
            assert "docs/redis-acl.md" in hint


def test_no_memory(valkey: QueueServer) -> None:
    """For a command, or in a script."""
    valkey.bytes.config_set("maxmemory", 1)
    try:
        for command in (("SET", "a", "b"), ("EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "a")):
            what, hint = said(valkey.url, *command)
            assert what == "Redis has no memory left, so it rejects writes"
            assert "maxmemory" in hint
    finally:
        valkey.bytes.config_set("maxmemory", 0)


def test_no_disk(tmp_path: Path) -> None:
    """The last snapshot failed."""
    with new_valkey("--save", "3600 1", "--dir", str(tmp_path)) as server, server.client() as client:
        (tmp_path / "dump.rdb").mkdir()
        client.set("a", "b")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        what, hint = said(server.url, "SET", "a", "b")
        assert what == "Redis can't save its data, so it rejects writes"
        assert "disk" in hint


def test_a_replica(valkey: QueueServer) -> None:
    """It was demoted."""
    valkey.bytes.replicaof("127.0.0.1", "1")
    try:
        assert said(valkey.url, "SET", "a", "b")[0] == "Redis is a replica, so it rejects writes"
    finally:
        valkey.bytes.replicaof("NO", "ONE")


def test_wrong_values(valkey: QueueServer) -> None:
    """Keys of another type, counters that aren't numbers, streams without ids left."""
    valkey.bytes.set("a", "x")
    valkey.bytes.hset("h", "field", "x")
    valkey.bytes.xadd("s", {"a": "b"}, id="18446744073709551615-18446744073709551615")
    assert said(valkey.url, "XADD", "a", "*", "a", "b")[0] == "a key of the queue has another type"
    assert said(valkey.url, "HINCRBY", "h", "field", "1")[0] == "a counter of the accounting isn't a number"
    assert said(valkey.url, "XADD", "s", "*", "a", "b")[0].startswith("a stream has no ids left")


@pytest.mark.parametrize(
    ("error", "code", "rejection"),
    [
        (redis.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."), "", False),
        (redis.TimeoutError("Timeout reading from socket"), "", False),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING", False),
        (redis.ConnectionError("max number of clients reached"), "MAXCLIENTS", False),
        (redis.AuthenticationError("AUTH <password> called without any password configured"), "LOGIN", False),
        (redis.ResponseError("Protocol error: unauthenticated multibulk length"), "NOAUTH", False),
        (redis.ResponseError("BUSY Redis is busy running a script."), "BUSY", True),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS", True),
        (redis.exceptions.MovedError("1 10.0.0.1:6379"), "MOVED", True),
        (redis.exceptions.MasterDownError("Link with MASTER is down"), "MASTERDOWN", True),
        (redis.exceptions.ClusterDownError("Hash slot not served"), "CLUSTERDOWN", True),
        (redis.ResponseError("unknown command 'XADD'"), "", True),
    ],
)
def test_codes(error: redis.RedisError, code: str, rejection: bool) -> None:
    """A rejection concerns one command; anything else concerns all of them."""
    assert failure_code(error) == code
    assert is_rejection(error) == rejection
    what, _ = failure_in_words(error)
    if not code:
        assert what == ("Redis rejected a command" if rejection else "Redis is unreachable")
