"""How failed commands are reported: as errors, as the problem for health checks, and as one line per outage."""

import logging
from collections.abc import Iterator

import pytest
import redis
from support.processes.workers import KEYS, QueueServer, publish_many

from worker.queue.commands import (
    FORGOTTEN_AFTER_S,
    Commands,
    QueueError,
    QueueRejectedError,
    QueueUnreachableError,
    retry_delays,
)
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.redis_client import connect


@pytest.fixture
def commands(valkey: QueueServer) -> Iterator[Commands]:
    """The commands of a queue in a real Valkey."""
    commands = Commands(connect(valkey.url), KEYS)
    yield commands
    commands.close()


def fails(error: Exception | None) -> object:
    """A command with this outcome."""

    def command(_client: redis.Redis) -> str:
        if error:
            raise error
        return "reply"

    return command


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (redis.ConnectionError("refused"), QueueUnreachableError, "Redis is unreachable; retrying, nothing is lost"),
        (redis.TimeoutError("no reply"), QueueUnreachableError, "Redis is unreachable; retrying, nothing is lost"),
        (
            redis.AuthenticationError("WRONGPASS"),
            QueueUnreachableError,
            "Redis rejected the login; retrying, nothing is lost",
        ),
        (redis.ResponseError("ERR"), QueueRejectedError, "Redis rejected a command; retrying, nothing is lost"),
        (
            redis.ReadOnlyError("READONLY"),
            QueueRejectedError,
            "Redis is a replica, so it rejects writes; retrying, nothing is lost",
        ),
        (
            redis.ResponseError("Protocol error: unauthenticated multibulk length"),
            QueueUnreachableError,
            "Redis demands a password; retrying, nothing is lost",
        ),
    ],
)
def test_every_error_is_named(
    commands: Commands, caplog: pytest.LogCaptureFixture, error: Exception, raised: type[QueueError], message: str
) -> None:
    """In the exception, in the problem, and in the log line with the command."""
    named = f"{type(error).__name__}: {error}"
    with caplog.at_level(logging.WARNING), pytest.raises(raised, match=named) as caught:
        commands.call("settle", fails(error))
    assert type(caught.value) is raised
    assert commands.problem == named
    (record,) = caplog.records
    assert (record.getMessage(), record.command, record.error) == (message, "settle", named)


def test_an_outage_is_logged_once_at_both_ends(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    """However many commands fail; any command that succeeds ends it."""
    caplog.set_level(logging.INFO)
    for name in ("read", "settle", "read"):
        with pytest.raises(QueueUnreachableError):
            commands.call(name, fails(redis.ConnectionError("refused")))
    assert commands.call("skip", fails(None)) == "reply"
    assert commands.problem == ""
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[1] == "Redis works again"
    assert caplog.records[1].outage_seconds >= 0.0


def test_a_rejection_is_over_when_the_same_command_succeeds(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    """While results can't be written and entries can be read, that is one outage."""
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with pytest.raises(QueueRejectedError):
            commands.call("settle", fails(redis.ResponseError("WRONGTYPE")))
        commands.call("read", fails(None))
        assert "WRONGTYPE" in commands.problem
    commands.call("settle", fails(None))
    assert commands.problem == ""
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_rejection_that_is_not_repeated_is_over(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """What it concerned was done in another way: a frame ended while Redis was read-only, so its hold isn't extended."""
    caplog.set_level(logging.INFO)
    clock = [0.0]
    commands = Commands(connect(valkey.url), KEYS, now=lambda: clock[0])
    for _ in range(10):
        clock[0] += 1.0
        with pytest.raises(QueueRejectedError):
            commands.call("set_idle", fails(redis.ReadOnlyError("READONLY")))
        commands.call("wait", fails(None))
        assert commands.problem
    clock[0] += FORGOTTEN_AFTER_S
    commands.call("read", fails(None))
    assert commands.problem
    clock[0] += 0.1
    commands.call("read", fails(None))
    assert commands.problem == ""
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[1].outage_seconds == 12.1
    commands.close()


def test_a_straggler_of_an_outage_is_no_new_one(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    """A command that began during the outage and fails after its end, because its thread was slow, is only repeated."""
    caplog.set_level(logging.INFO)

    def straggler(_client: redis.Redis) -> None:
        commands.call("read", fails(None))
        raise redis.ConnectionError("refused")

    with pytest.raises(QueueUnreachableError):
        commands.call("read", fails(redis.ConnectionError("refused")))
    with pytest.raises(QueueUnreachableError):
        commands.call("settle", straggler)
    assert commands.problem == ""
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    with pytest.raises(QueueUnreachableError):
        commands.call("settle", fails(redis.ConnectionError("refused")))
    assert commands.problem == "ConnectionError: refused"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_a_rejection_outlasts_an_outage(commands: Commands) -> None:
    """The end of one problem isn't the end of the other."""
    for error in (redis.ResponseError("WRONGTYPE"), redis.ConnectionError("refused")):
        with pytest.raises(QueueError):
            commands.call("settle", fails(error))
    commands.call("read", fails(None))
    assert commands.problem == "ResponseError: WRONGTYPE"
    commands.call("settle", fails(None))
    assert commands.problem == ""


def test_a_real_rejection(valkey: QueueServer, commands: Commands) -> None:
    """Of a script, because a key has another type."""
    queue = Queue(commands, "me")
    publish_many(valkey.bytes, 1)
    valkey.bytes.set(KEYS.counts, "in the way")
    (delivery,) = queue.read(1)
    settled = Counted(delivery.entry_id, "cam0", 1.0, 1, "{}")
    with pytest.raises(QueueRejectedError, match="WRONGTYPE"):
        queue.settle([settled])
    valkey.bytes.delete(KEYS.counts)
    assert queue.settle([settled]) == [True]
    assert queue.problem == ""


def test_a_missing_group_is_created(valkey: QueueServer, commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    """At the first command, and again after a FLUSHALL; the command's reply is that of the second attempt."""
    caplog.set_level(logging.INFO)
    queue = Queue(commands, "me")
    for _ in range(2):
        assert queue.read(1) == []
        assert queue.read(1) == []
        valkey.bytes.flushall()
    assert caplog.messages == ["created the consumer group"] * 2
    assert (caplog.records[0].group, caplog.records[0].queue) == (CONSUMER_GROUP, KEYS.frames)


def test_another_worker_may_create_the_group(valkey: QueueServer, commands: Commands) -> None:
    """Between the first attempt and the creation: the command is run again all the same."""
    attempts: list[int] = []

    def command(_client: redis.Redis) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            valkey.bytes.xgroup_create(KEYS.frames, CONSUMER_GROUP, id="0", mkstream=True)
            raise redis.ResponseError("NOGROUP")
        return "reply"

    assert commands.call("read", command) == "reply"


def test_a_group_that_cannot_be_created_is_a_rejection(valkey: QueueServer, commands: Commands) -> None:
    """The queue's key has another type."""
    valkey.bytes.set(KEYS.frames, "in the way")
    with pytest.raises(QueueRejectedError, match="WRONGTYPE"):
        commands.call("read", fails(redis.ResponseError("NOGROUP")))


def test_delays_grow_to_a_second() -> None:
    """From tens of milliseconds, so that a short outage costs little."""
    delays = retry_delays()
    taken = [delays.next() for _ in range(20)]
    assert taken[0] <= 0.05
    assert 0.5 <= taken[-1] <= 1.0
