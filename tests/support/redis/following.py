"""A follower of the hash at work, and a server that answers it as a test says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from support.redis.scripted import OK, RESP3, ScriptedRedis, scripted_redis
from support.waiting import until

from process.redis_url import parse_redis_url
from sidecar.connections.servers import RedisServers
from sidecar.limits.follower import FpsFollower
from sidecar.limits.following import RedisState
from sidecar.limits.small_hashes import SmallHashes, boosts_hash, patterns_hash
from sidecar.limits.table import FpsTable

KEY = "stream_fps_configs"
NO_COMMAND = b"-ERR unknown command\r\n"
CHANGED = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$18\r\nstream_fps_configs\r\n"
"""The push about a change of the hash."""


def changed(key: str) -> bytes:
    """Returns the push about a change of a key."""
    return b">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%s\r\n" % (len(key), key.encode())


class Following:
    """A follower at work, its table with a default of 1, and the states that it reported."""

    def __init__(self, port: int, *, small: bool = False) -> None:
        self.table = FpsTable(1.0, lambda _field, _value: None, clock=time.monotonic, wall_clock=lambda: 0.0)
        hashes = [patterns_hash(self.table, KEY), boosts_hash(self.table, KEY)] if small else []
        self.states: list[RedisState] = []
        self.problems: list[str] = []
        servers = RedisServers(parse_redis_url(f"redis://127.0.0.1:{port}/0"))
        self.follower = FpsFollower(
            self.table,
            servers,
            KEY,
            small=SmallHashes(hashes),
            poll_s=0.02,
            on_state=self.states.append,
            on_problem=self.problems.append,
        )

    async def until(self, state: RedisState) -> None:
        """Waits for a state."""
        await until(lambda: self.follower.state is state, state.name)

    async def learn(self, *stream_names: str) -> None:
        """Learns new streams, as their first frames do."""
        await self.follower.learn(stream_names)

    async def learns_at_once(self, stream_name: str) -> bool:
        """Learns a stream; returns whether that didn't even yield to the event loop."""
        learning = asyncio.create_task(self.learn(stream_name))
        await asyncio.sleep(0)
        at_once = learning.done()
        await learning
        return at_once


@contextlib.asynccontextmanager
async def following(port: int, *, small: bool = False) -> AsyncIterator[Following]:
    """A follower of the hash in the server at this port, and if ``small`` of the patterns and boosts there."""
    made = Following(port, small=small)
    task = asyncio.create_task(made.follower.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Script:
    """Answers HMGET as a test sets it, and rejects HSCAN but of small hashes; CLIENT TRACKING and PING succeed."""

    def __init__(self) -> None:
        self.error = b""
        """The answer to HMGET; empty if all fields are absent."""
        self.silent = False
        self.read: list[list[bytes]] = []
        """The fields of each HMGET."""
        self.small: dict[bytes, dict[bytes, bytes] | bytes] = {}
        """The hashes that HSCAN returns, or the errors."""
        self.scanned: list[bytes] = []
        """The key of each HSCAN of one of them."""
        self.redis = ScriptedRedis(self.answer)

    def answer(self, words: list[bytes]) -> bytes | None:
        """The answer to a command."""
        if self.silent:
            return None
        if words[0] == b"HSCAN" and words[1] in self.small:
            self.scanned.append(words[1])
            found = self.small[words[1]]
            if isinstance(found, bytes):
                return found
            flat = [word for pair in found.items() for word in pair]
            return b"*2\r\n$1\r\n0\r\n*%d\r\n" % len(flat) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in flat)
        if words[0] == b"HSCAN":
            return NO_COMMAND
        if words[0] == b"HMGET":
            self.read.append(words[2:])
            return self.error or b"*%d\r\n" % (len(words) - 2) + b"_\r\n" * (len(words) - 2)
        return RESP3 if words[0] == b"HELLO" else OK


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """Serves on a port until the block ends and the clients are gone."""
    async with scripted_redis(script.answer) as script.redis:
        yield script.redis.port
