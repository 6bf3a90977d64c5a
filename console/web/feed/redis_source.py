"""Reads what the page shows from Redis. Every reading is bounded, whatever Redis holds and however many pages are open."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis.asyncio

from console.control.changes import Snapshot
from console.web.feed.facts import HASH_FIELDS, Counted, counted_from, decode_name, encode_name, numbers_from
from console.web.feed.load import Load
from console.web.feed.queue_keys import QueueKeys

CONSUMER_GROUP: Final = "workers"

BATCH: Final = 200
"""Hashes in one round trip."""

SCAN_COUNT: Final = 1000
SCANS: Final = 4
"""Steps of one search for streams; the next one continues where it ended."""

MOST_CONSUMERS: Final = 200


class RedisSource:
    """Readings of the queue's Redis. Each raises redis.RedisError."""

    def __init__(self, client: "redis.asyncio.Redis", keys: QueueKeys, config_key: str, load: Load) -> None:
        self._client: Any = client
        self._keys = keys
        self._config_key = config_key
        self._load = load
        self._cursor = 0
        self._turn = 0

    async def now(self) -> float:
        """Returns Redis' clock, Unix seconds."""
        self._note("time", 1)
        seconds, micros = await self._client.time()
        return int(seconds) + int(micros) / 1e6

    async def limits(self) -> Snapshot:
        """Returns the limits."""
        names = (self._config_key, f"{self._config_key}:patterns", f"{self._config_key}:boosts")
        self._note("hgetall", len(names))
        pipeline = self._client.pipeline(transaction=False)
        for key in names:
            pipeline.hgetall(key)
        replies = await pipeline.execute(raise_on_error=False)
        if isinstance(replies[0], redis.RedisError) and "WRONGTYPE" not in str(replies[0]):
            raise replies[0]
        return Snapshot(*(_texts(reply) if isinstance(reply, dict) else {} for reply in replies))

    async def found(self) -> set[str]:
        """Searches a bounded part of the keys for streams, and returns those that it found."""
        names: set[str] = set()
        for _ in range(SCANS):
            self._note("scan", 1)
            self._cursor, keys = await self._client.scan(self._cursor, match=self._keys.all_streams, count=SCAN_COUNT)
            names |= {decode_name(name) for key in keys if (name := self._keys.stream_name(key))}
            if self._cursor == 0:
                break
        return names

    async def counted(self, names: Sequence[str], most: int) -> tuple[dict[str, Counted], set[str]]:
        """Reads the hashes of streams, at most so many; with more streams each has its turn.

        Returns:
            What the hashes say, and the streams that were read.
        """
        begin = self._turn % max(len(names), 1)
        chosen = [*names[begin:], *names[:begin]][:most]
        self._turn = begin + len(chosen)
        facts: dict[str, Counted] = {}
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            pipeline = self._client.pipeline(transaction=False)
            for name in part:
                pipeline.hmget(self._keys.stream(name), HASH_FIELDS)
            self._note("hmget", len(part))
            for name, values in zip(part, await pipeline.execute(raise_on_error=False), strict=True):
                if isinstance(values, redis.ResponseError):
                    continue  # a key of another type
                if isinstance(values, Exception):
                    raise values
                if (counted := counted_from(values)) is not None:
                    facts[name] = counted
        return facts, set(chosen)

    async def camera(self, name: str) -> dict[str, str]:
        """Returns all that is kept of one stream, as text."""
        self._note("hgetall", 1)
        fields = await self._client.hgetall(self._keys.stream(name))
        return {decode_name(field): value.decode(errors="replace") for field, value in fields.items()}

    async def picture(self, name: str) -> bytes | None:
        """Returns the last annotated picture of a stream, a JPEG; None if there is none."""
        self._note("get", 1)
        picture: bytes | None = await self._client.get(self._keys.preview(name))
        self._load.redis_bytes.inc(len(picture or b""))
        return picture

    async def queue(self) -> dict[str, Any]:
        """Returns the lengths of the queue, what waits in it, its workers and the accounting."""
        keys = self._keys
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hgetall(keys.accounting)
        pipeline.hgetall(keys.unread)
        for key in (keys.frames, keys.counts, keys.dead):
            pipeline.xlen(key)
        pipeline.xinfo_groups(keys.frames)
        pipeline.xpending(keys.frames, CONSUMER_GROUP)
        pipeline.xinfo_consumers(keys.frames, CONSUMER_GROUP)
        self._note("queue", 8)
        accounting, unread, frames, counts, dead, groups, pending, consumers = (
            None if isinstance(reply, Exception) else reply for reply in await pipeline.execute(raise_on_error=False)
        )
        group: dict[str, Any] = next((each for each in groups or () if each["name"] == CONSUMER_GROUP.encode()), {})
        oldest = (pending or {}).get("min")
        return {
            "accounting": numbers_from(accounting or {}),
            "dropped": numbers_from(unread or {}).get("dropped", 0),
            "frames": frames,
            "counts": counts,
            "dead": dead,
            "lag": group.get("lag"),
            "pending": (pending or {}).get("pending"),
            "oldest_pending_at": int(oldest.partition(b"-")[0]) / 1000 if oldest else None,
            "workers": [
                {
                    "name": each["name"].decode(errors="replace"),
                    "pending": each["pending"],
                    "idle_s": round(each["idle"] / 1000),
                }
                for each in (consumers or ())[:MOST_CONSUMERS]
            ],
        }

    async def server(self) -> dict[str, object]:
        """Returns what Redis says about itself, as far as the user may read it."""
        self._note("info", 1)
        began = time.monotonic()
        try:
            info = await self._client.info()
        except redis.ResponseError:  # without the permission the rest of the page works
            return {}
        known = ("used_memory", "maxmemory", "connected_clients", "instantaneous_ops_per_sec", "evicted_keys")
        version = info.get("valkey_version") or info.get("redis_version", "")
        return {
            "version": str(version),
            "name": "Valkey" if "valkey_version" in info else "Redis",
            "answers_ms": round((time.monotonic() - began) * 1000, 1),
            "policy": str(info.get("maxmemory_policy", "")),
            **{name: info[name] for name in known if isinstance(info.get(name), int)},
        }

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _note(self, what: str, number: int) -> None:
        self._load.redis_commands.labels(what).inc(number)


def valid_names(names: Iterable[str]) -> set[str]:
    """Returns the names that can be encoded."""
    valid = set()
    for name in names:
        try:
            encode_name(name)
        except UnicodeEncodeError:
            continue
        valid.add(name)
    return valid


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {decode_name(name): decode_name(value) for name, value in fields.items()}
