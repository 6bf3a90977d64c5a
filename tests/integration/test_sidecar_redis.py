"""The sidecar with a real Valkey: live changes of the limits, no command per decision, few permissions."""

import itertools
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
import redis
from support.clients.asker import DEFAULT, KEY, POLLING, TRACKING, Asker
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

MANY = 2000
"""Fields of a hash that is too large for Redis to keep as a list."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """Returns a sidecar with a default of 7 fps that follows the Valkey."""
    with sidecar_process(redis_url=server.url, fps=DEFAULT, constants=LIMITS_ARE_WAITED_FOR) as running:
        yield running


_marks = itertools.count(1)


@pytest.fixture
def asker(sidecar: SidecarProcess, client: "redis.Redis") -> Iterator[Asker]:
    """Returns a client of the sidecar, which has seen that the hash has no other limits. Tests have streams of their own."""
    client.flushall()
    client.config_resetstat()
    with grpc.insecure_channel(sidecar.address) as channel:
        asker = Asker(sidecar, channel)
        mark = next(_marks) / 1024
        client.hset(KEY, "mark", str(mark))
        asker.wait_for_fps(mark, "mark")
        asker.wait_for_state(TRACKING)
        yield asker


@pytest.fixture
def lone_asker(server: Valkey, client: "redis.Redis") -> Iterator[Asker]:
    """Returns the only client of a sidecar of its own, for tests of the log, whose lines are limited."""
    client.flushall()
    with (
        sidecar_process(redis_url=server.url, fps=DEFAULT, constants=LIMITS_ARE_WAITED_FOR) as alone,
        grpc.insecure_channel(alone.address) as channel,
    ):
        asker = Asker(alone, channel)
        asker.wait_for_state(TRACKING)
        yield asker


def swap_in(client: "redis.Redis") -> None:
    """Replaces the hash in one step."""
    client.hset("prepared", "cam1", "4")
    client.rename("prepared", KEY)


CHANGES: dict[str, tuple[Callable[["redis.Redis"], object], float]] = {
    "HSET": (lambda client: client.hset(KEY, "cam1", "5"), 5.0),
    "HSET 0": (lambda client: client.hset(KEY, "cam1", "0"), 0.0),
    "HSET of another field": (lambda client: client.hset(KEY, "cam2", "5"), 2.0),
    "HDEL": (lambda client: client.hdel(KEY, "cam1"), 3.0),
    "HDEL of the wildcard": (lambda client: client.hdel(KEY, "cam1", "*"), DEFAULT),
    "DEL": (lambda client: client.delete(KEY), DEFAULT),
    "RENAME away": (lambda client: client.rename(KEY, "elsewhere"), DEFAULT),
    "RENAME here": (swap_in, 4.0),
    "FLUSHALL": (lambda client: client.flushall(), DEFAULT),
    "PEXPIRE": (lambda client: client.pexpire(KEY, 1), DEFAULT),
    "SET, the wrong type": (lambda client: client.set(KEY, "not a hash"), 2.0),
    "HSET of nonsense": (lambda client: client.hset(KEY, "cam1", "abc"), 2.0),
}


@pytest.mark.parametrize("others", [0, MANY], ids=["small", "large"])
def test_every_change_acts_on_the_next_decision(asker: Asker, client: "redis.Redis", others: int) -> None:
    """Every change of the hash takes effect as soon as its push has arrived, without another command."""
    for name, (change, fps) in CHANGES.items():
        client.flushall()
        client.hset(KEY, mapping={"cam1": "2", "*": "3", **{f"other{number}": "1" for number in range(others)}})
        asker.wait_for_fps(2.0)
        change(client)
        wait_until(lambda expected=fps: asker.fps("cam1") == expected, f"the limit after {name}")  # type: ignore[misc]
        assert asker.state() == TRACKING, name


def test_the_answer_has_the_source_of_the_limit(asker: Asker, client: "redis.Redis") -> None:
    """The order is the stream's field, the wildcard, the default; the answer says which, and that it isn't stale."""
    assert asker.ask("sourced-1").fps_source == pb.FPS_SOURCE_DEFAULT
    client.hset(KEY, "*", "3")
    asker.wait_for_fps(3.0, "sourced-1")
    assert asker.ask("sourced-1").fps_source == pb.FPS_SOURCE_WILDCARD
    client.hset(KEY, "sourced-1", "2")
    asker.wait_for_fps(2.0, "sourced-1")
    answer = asker.ask("sourced-1")
    assert (answer.fps_source, answer.stale) == (pb.FPS_SOURCE_OVERRIDE, False)


def test_the_first_frame_of_a_stream_has_its_limit(asker: Asker, client: "redis.Redis") -> None:
    """A stream whose limit was set before its first frame is decided at that limit from the first frame on."""
    client.hset(KEY, mapping={f"first-{number}": str(number + 1) for number in range(100)})
    assert [asker.fps(f"first-{number}") for number in range(50)] == [float(number + 1) for number in range(50)]
    batch = pb.ShouldProcessBatchRequest(stream_names=[f"first-{number}" for number in range(50, 100)])
    assert list(asker.stub.ShouldProcessBatch(batch).fps) == [float(number + 1) for number in range(50, 100)]


def test_a_bad_value_is_reported(lone_asker: Asker, client: "redis.Redis") -> None:
    """An invalid value is ignored, logged once, counted, and shown by ListStreams until it is corrected."""
    client.hset(KEY, mapping={"cam1": "fast", "cam2": "fast", "*": "3"})
    lone_asker.wait_for_fps(3.0)
    lone_asker.wait_for_fps(3.0, "cam2")

    def invalid_values() -> list[str]:
        return [stream.invalid_value for stream in lone_asker.stub.ListStreams(pb.ListStreamsRequest()).streams]

    assert invalid_values() == ["fast", "fast"]
    client.hset(KEY, "cam1", "6")
    lone_asker.wait_for_fps(6.0)
    assert invalid_values() == ["", "fast"]
    assert lone_asker.sidecar.logs().count("isn't a valid fps") == 1


def test_a_changed_limit_is_a_log_line(lone_asker: Asker, client: "redis.Redis") -> None:
    """It has the stream, both fps and the source. Changes of streams without frames aren't logged."""
    client.hset(KEY, mapping={"cam1": "2", "cam2": "2"})
    lone_asker.wait_for_fps(2.0)
    client.hset(KEY, mapping={"cam1": "0.25", "cam2": "5"})
    lone_asker.wait_for_fps(0.25)
    client.hset(KEY, "*", "3")
    client.hdel(KEY, "cam1")
    lone_asker.wait_for_fps(3.0)
    lines = [line for line in lone_asker.sidecar.logs().splitlines() if " limit changed " in line]
    fields = [line.partition(" limit changed ")[2] for line in lines]
    assert "stream_name=cam1 old_fps=2 new_fps=0.25 source=override" in fields
    assert "stream_name=* old_fps=7 new_fps=3 source=wildcard" in fields
    assert "stream_name=cam1 old_fps=0.25 new_fps=3 source=wildcard" in fields
    assert not any("cam2" in line for line in lines)


def test_no_redis_command_per_decision(asker: Asker, client: "redis.Redis") -> None:
    """A thousand decisions about known streams cause no command, by the server's own statistics."""

    def commands() -> dict[str, int]:
        stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}

    names = [f"quiet-{number}" for number in range(10)]
    batch = pb.ShouldProcessBatchRequest(stream_names=names * 10)
    client.hset(KEY, mapping=dict.fromkeys(names, "3"))
    for name in names:
        asker.wait_for_fps(3.0, name)
    started = time.monotonic()
    before = commands()
    for number in range(100):
        asker.ask(names[number % 10])
    for _ in range(20):
        asker.stub.ShouldProcessBatch(batch)
    after = commands()
    heartbeats = int(time.monotonic() - started) + 2
    issued = {name: count - before.get(name, 0) for name, count in after.items() if name != "info"}
    assert issued.pop("ping", 0) <= heartbeats
    # The slow resync, every 30 s, may happen during the test: two reads.
    assert sum(issued.values()) <= 2 * (1 + heartbeats // 30), issued


def test_a_flood_of_changes_is_coalesced(asker: Asker, client: "redis.Redis") -> None:
    """Many changes at once cause few readings, and the last change wins."""
    asker.fps("flooded-1")
    with client.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.hset(KEY, "flooded-1", str(number + 10))
        pipeline.execute()
    asker.wait_for_fps(5009.0, "flooded-1")
    stats = client.info("commandstats")
    assert stats["cmdstat_hscan"]["calls"] + stats["cmdstat_hmget"]["calls"] < 1000


def test_a_hash_is_read_in_the_way_that_suits_it(asker: Asker, client: "redis.Redis") -> None:
    """A small hash is read whole, of a large one only the watched streams, also while it grows and shrinks."""

    def reads(change: Callable[[], object], fps: float) -> tuple[bool, bool]:
        """Returns whether the hash, and whether single streams, were read for a change of read-1."""
        client.config_resetstat()
        change()
        asker.wait_for_fps(fps, "read-1")
        stats = client.info("commandstats")
        return "cmdstat_hscan" in stats, "cmdstat_hmget" in stats

    asker.fps("read-1")
    assert reads(lambda: client.hset(KEY, "read-1", "2"), 2.0) == (True, False)
    many = {f"other{number}": "1" for number in range(MANY)} | {"read-1": "3"}
    assert reads(lambda: client.hset(KEY, mapping=many), 3.0) == (True, True)
    client.delete(KEY)
    asker.wait_for_fps(DEFAULT, "read-1")
    assert reads(lambda: client.hset(KEY, "read-1", "4"), 4.0) == (True, False)


def test_the_wrong_type_and_back(lone_asker: Asker, client: "redis.Redis") -> None:
    """A key of the wrong type keeps the last limits and is logged once; when it is a hash again, its values apply."""
    client.hset(KEY, "cam1", "2")
    lone_asker.wait_for_fps(2.0)
    client.set(KEY, "x")
    wait_until(lambda: lone_asker.ask("cam1").stale, "the wrong type is noticed")
    assert (lone_asker.fps("cam1"), lone_asker.fps("new")) == (2.0, DEFAULT)
    client.delete(KEY)
    client.hset(KEY, "cam1", "3")
    lone_asker.wait_for_fps(3.0)
    assert lone_asker.sidecar.logs().count("isn't a hash") == 1


LEAST_PRIVILEGE = f"on >secret %R~{KEY} resetchannels -@all +hmget +ping +hello"


@pytest.mark.parametrize(
    ("more", "state"), [(" +hscan +client|tracking", TRACKING), (" +client|tracking", TRACKING), (" +hscan", POLLING)]
)
def test_a_least_privilege_user_is_enough(server: Valkey, client: "redis.Redis", more: str, state: int) -> None:
    """The permission to read the hash is enough; without the permission to track, the sidecar polls and logs it."""
    client.flushall()
    client.execute_command("ACL", "SETUSER", "sidecar", *(LEAST_PRIVILEGE + more).split())
    url = f"redis://sidecar:secret@127.0.0.1:{server.port}/0"
    with (
        sidecar_process(redis_url=url, fps=DEFAULT) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(sidecar, channel)
        asker.wait_for_state(state)
        assert asker.fps("cam1") == DEFAULT
        client.hset(KEY, "cam1", "2")
        asker.wait_for_fps(2.0)
        info = asker.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert info.settings["redis-url"] == f"redis://sidecar:***@127.0.0.1:{server.port}/0"
        assert "secret" not in sidecar.logs()
