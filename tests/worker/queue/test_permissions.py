"""Missing permissions are found at the start."""

import logging
import re
from collections.abc import Callable, Iterator

import pytest
import redis
from support.processes.programs import REPOSITORY
from support.processes.workers import KEYS, QueueServer

from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.keys import Keys
from worker.queue.partitions import Partitions
from worker.queue.permissions import Probe, missing_permissions, publisher_probes, worker_probes
from worker.queue.redis_client import connect

PROBES = {
    "hand-counter": worker_probes,
    "hand-counter-publish": lambda keys: publisher_probes(keys, Partitions()),
}


def rule(user: str) -> list[str]:
    """The words of the documented command that creates a user."""
    (command,) = re.findall(rf"^ACL SETUSER {user} .*$", (REPOSITORY / "docs/redis-acl.md").read_text(), re.MULTILINE)
    return command.split()


@pytest.fixture(params=PROBES)
def user(request: pytest.FixtureRequest, valkey: QueueServer) -> Iterator[str]:
    """A documented user."""
    valkey.bytes.execute_command(*rule(request.param))
    yield request.param
    valkey.bytes.execute_command("ACL DELUSER", request.param)


def connected(valkey: QueueServer, user: str) -> redis.Redis:
    """A client of this user."""
    return connect(valkey.url.replace("redis://", f"redis://{user}:SECRET@"))


@pytest.mark.parametrize(("name", "probes"), PROBES.items())
def test_there_is_a_probe_for_each_documented_permission(name: str, probes: Callable[[Keys], list[Probe]]) -> None:
    """And for no other."""
    documented = {word[1:] for word in rule(name) if word.startswith("+")}
    assert {probe.permission for probe in probes(KEYS)} == documented


def test_each_missing_permission_is_found(valkey: QueueServer, user: str) -> None:
    """By name, one at a time; with all of them nothing is missing, and nothing was changed."""
    probes = PROBES[user](KEYS)
    with connected(valkey, user) as client:
        assert missing_permissions(client, probes) == []
        for permission in dict.fromkeys(probe.permission for probe in probes):
            valkey.bytes.execute_command("ACL SETUSER", user, f"-{permission}")
            assert set(missing_permissions(client, probes)) == {f"+{permission}"}
            valkey.bytes.execute_command("ACL SETUSER", user, f"+{permission}")
    assert valkey.bytes.keys() == []


def test_a_missing_key_is_found(valkey: QueueServer) -> None:
    """With the commands that would use it."""
    valkey.bytes.execute_command(*rule("hand-counter"), "resetkeys", f"~{KEYS.frames}", f"~{KEYS.counts}")
    with connected(valkey, "hand-counter") as client:
        missing = missing_permissions(client, worker_probes(KEYS))
    assert f"+xadd ~{KEYS.dead}" in missing
    assert f"+hincrby ~{KEYS.accounting}" in missing
    assert not any(KEYS.frames in each or KEYS.counts in each for each in missing)
    valkey.bytes.execute_command("ACL DELUSER", "hand-counter")


def test_probes_change_nothing_in_a_queue_in_use(valkey: QueueServer) -> None:
    """The user may do everything, and all keys exist."""
    valkey.bytes.xadd(KEYS.frames, {"a": "b"})
    queue = Queue(Commands(connect(valkey.url), KEYS), "me")
    queue.read(1)
    for key in (KEYS.counts, KEYS.dead):
        valkey.bytes.xadd(key, {"a": "b"})
    before = {key: valkey.bytes.dump(key) for key in valkey.bytes.scan_iter()}
    assert len(before) == 5
    queue.report_missing_permissions()
    with connect(valkey.url) as client:
        assert missing_permissions(client, publisher_probes(KEYS, Partitions())) == []
    assert {key: valkey.bytes.dump(key) for key in valkey.bytes.scan_iter()} == before
    queue.close()


def test_what_is_missing_is_one_line(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """With the rules to grant and where they are documented."""
    valkey.bytes.execute_command(*rule("hand-counter"), "-xadd", "-xack")
    with connected(valkey, "hand-counter") as client, caplog.at_level(logging.ERROR):
        Queue(Commands(client, KEYS), "me").report_missing_permissions()
    valkey.bytes.execute_command("ACL DELUSER", "hand-counter")
    (record,) = caplog.records
    assert "docs/redis-acl.md" in record.getMessage()
    assert record.missing == "+xack, +xadd"
