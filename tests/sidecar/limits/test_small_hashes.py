"""The follower reads patterns and boosts: when, and what happens if it can't. From a scripted server."""

from collections.abc import AsyncIterator

import pytest
from support.redis.following import CHANGED, KEY, NO_COMMAND, Script, changed, following, serving
from support.waiting import until

from handcounter.pacing.limits import FpsSource, Limit, boosts_key, patterns_key
from sidecar.connections.errors import Problem
from sidecar.limits.following import RedisState

PATTERNS, BOOSTS = patterns_key(KEY), boosts_key(KEY)
NOPERM = b"-NOPERM this user has no permissions to access one of the keys\r\n"
WRONGTYPE = b"-WRONGTYPE not a hash\r\n"


@pytest.fixture
async def script() -> AsyncIterator[tuple[Script, int]]:
    """A server with a pattern and no boosts, and its port."""
    script = Script()
    script.small = {PATTERNS.encode(): {b"a*": b"3"}, BOOSTS.encode(): {}}
    async with serving(script) as port:
        yield script, port


async def test_each_is_read_at_its_own_push(script: tuple[Script, int]) -> None:
    """At first both, before the streams; then the one that changed, and the hash of limits not again; others are ignored."""
    redis, port = script
    async with following(port, small=True) as made:
        await made.until(RedisState.TRACKING)
        assert redis.scanned == [PATTERNS.encode(), BOOSTS.encode()]
        await made.learn("a1")
        assert (made.table.limit("a1"), made.table.unread) == (Limit(3.0, FpsSource.PATTERN), set())
        readings, commands = len(redis.read), len(redis.scanned)
        redis.small[PATTERNS.encode()] = {b"a*": b"4"}
        redis.redis.push(changed(PATTERNS))
        await until(lambda: made.table.fps("a1") == 4.0)
        redis.small[BOOSTS.encode()] = {b"a1": b"9 1000"}
        redis.redis.push(changed(BOOSTS))
        await until(lambda: made.table.fps("a1") == 9.0)
        assert redis.scanned[commands:] == [PATTERNS.encode(), BOOSTS.encode()]
        assert (len(redis.read), made.follower.pushes) == (readings, 2)
        redis.redis.push(changed(KEY + ":audit"))
        await made.learn("a2")  # answered after the push
        assert (len(redis.read), made.follower.pushes, len(redis.scanned)) == (readings + 1, 2, commands + 2)
        redis.redis.push(CHANGED)
        await until(lambda: len(redis.read) > readings + 1)
        assert len(redis.scanned) == commands + 2


@pytest.mark.parametrize(
    ("error", "problem", "words"),
    [
        (NOPERM, Problem.NOPERM, "docs/redis-acl.md"),
        (WRONGTYPE, Problem.WRONGTYPE, "isn't a hash"),
        (NO_COMMAND, None, "ERR"),
    ],
)
async def test_a_hash_that_cant_be_read(
    script: tuple[Script, int], caplog: pytest.LogCaptureFixture, error: bytes, problem: Problem | None, words: str
) -> None:
    """The streams' fields are followed all the same and aren't stale; it is said, once, and the last patterns stay."""
    redis, port = script
    redis.small[PATTERNS.encode()] = error
    async with following(port, small=True) as made:
        await made.until(RedisState.TRACKING)
        await made.learn("a1")
        assert (made.table.unread, made.table.stale, made.table.fps("a1")) == (set(), False, 1.0)
        assert made.follower.problem is (problem or Problem.OTHER)
        assert PATTERNS in made.problems[-1]
        redis.redis.push(changed(PATTERNS))
        await until(lambda: len(redis.scanned) == 3)
        redis.small[PATTERNS.encode()] = {b"a*": b"3"}
        redis.redis.push(changed(PATTERNS))
        await until(lambda: made.follower.problem is None and made.problems[-1] == "")
        assert made.table.fps("a1") == 3.0
        redis.small[PATTERNS.encode()] = error
        redis.redis.push(changed(PATTERNS))
        await until(lambda: made.follower.problem is not None)
        assert made.table.fps("a1") == 3.0
    warnings = [record for record in caplog.records if "can't be read" in record.message]
    assert len(warnings) == 2
    assert words in warnings[0].problem  # type: ignore[attr-defined]


async def test_what_is_ignored_is_logged_once(script: tuple[Script, int], caplog: pytest.LogCaptureFixture) -> None:
    """Each value and each name, with why; at most ten in a line."""
    redis, port = script
    redis.small[PATTERNS.encode()] = {b"a*": b"x", b"b* ": b"1"} | {b"c%02d*" % number: b"y" for number in range(20)}
    async with following(port, small=True) as made:
        await made.until(RedisState.TRACKING)
        redis.redis.push(changed(PATTERNS))
        await until(lambda: len(redis.scanned) == 3)
    values, names = (record for record in caplog.records if record.levelname == "WARNING")
    assert (values.message, values.count, len(values.fields)) == ("ignoring values that aren't valid", 21, 10)  # type: ignore[attr-defined]
    assert values.fields["a*"] == "x"  # type: ignore[attr-defined]
    assert list(names.fields) == ["b* "]  # type: ignore[attr-defined]


async def test_many_streams_get_a_new_pattern_in_parts(script: tuple[Script, int]) -> None:
    """And a new stream's first frame doesn't wait for all of them."""
    redis, port = script
    async with following(port, small=True) as made:
        await made.until(RedisState.TRACKING)
        made.table.assume(f"a{number}" for number in range(2000))
        redis.small[PATTERNS.encode()] = {b"a*": b"4"}
        redis.redis.push(changed(PATTERNS))
        await until(lambda: all(made.table.fps(f"a{number}") == 4.0 for number in range(2000)))


async def test_another_error_is_that_of_the_server(script: tuple[Script, int]) -> None:
    """It is left, and tried again."""
    redis, port = script
    redis.small[BOOSTS.encode()] = b"-LOADING Redis is loading the dataset in memory\r\n"
    async with following(port, small=True) as made:
        await until(lambda: made.follower.problem is Problem.LOADING)
        assert made.table.stale
        redis.small[BOOSTS.encode()] = {}
        await made.until(RedisState.TRACKING)
