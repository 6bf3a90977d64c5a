"""Reads what the page shows from Redis. Every reading is bounded, whatever Redis holds and however many pages are open."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import redis.asyncio
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from console.control.changes import Kind, Snapshot
from console.web.feed.facts import (
    CAMERA_FIELDS,
    HASH_FIELDS,
    CameraSaid,
    Counted,
    camera_from,
    counted_from,
    decode_name,
    encode_name,
    numbers_from,
)
from console.web.feed.load import Load
from console.web.feed.queue_keys import PartitionKeys, QueueKeys
from process.redis_failures import failure_code

CONSUMER_GROUP: Final = "workers"

BATCH: Final = 200
"""Hashes in one round trip."""

SCAN_COUNT: Final = 1000
SCANS: Final = 4
"""Steps of one search for streams; the next one continues where it ended."""

MOST_CONSUMERS: Final = 200
MOST_PARTITIONS: Final = 64
"""Whose queues are read every time; the first ones, if there are more."""


class RedisSource:
    """Readings of the queue's Redis, or of all nodes of its cluster. Each raises redis.RedisError."""

    def __init__(
        self, client: "redis.asyncio.Redis | RedisCluster", keys: QueueKeys, config_key: str, load: Load
    ) -> None:
        self._client: Any = client
        self._keys = keys
        self._config_key = config_key
        self._load = load
        self._clustered = isinstance(client, RedisCluster)
        self._cursors: dict[str, int] = {}
        """Where the search for streams continues, by node."""
        self._turn = 0

    async def now(self) -> float:
        """Returns Redis' clock, Unix seconds."""
        self._note("time", 1)
        seconds, micros = await self._client.time()
        return int(seconds) + int(micros) / 1e6

    async def limits(self) -> Snapshot:
        """Returns the limits."""
        names = limits_keys(self._config_key)
        self._note("hgetall", len(names))
        pipeline = self._client.pipeline(transaction=False)
        for key in names:
            pipeline.hgetall(key)
        replies = await _replies(pipeline)
        if isinstance(replies[0], redis.RedisError) and failure_code(replies[0]) != "WRONGTYPE":
            raise replies[0]
        unread = (kind for kind, reply in zip(Kind, replies, strict=True) if not isinstance(reply, dict))
        return Snapshot(
            *(_texts(reply) if isinstance(reply, dict) else {} for reply in replies), unread=frozenset(unread)
        )

    async def found(self) -> set[str]:
        """Searches a bounded part of the keys for streams, and returns those that it found."""
        names: set[str] = set()
        for node in await self._nodes():
            for _ in range(SCANS):
                self._note("scan", 1)
                cursor, keys = await self._scan(node)
                names |= {decode_name(name) for key in keys if (name := self._keys.stream_name(key))}
                if cursor == 0:
                    break
        return names

    async def _scan(self, node: Any) -> tuple[int, list[bytes]]:
        where = {} if node is None else {"target_nodes": node}
        name = "" if node is None else node.name
        cursor, keys = await self._client.scan(
            self._cursors.get(name, 0), match=self._keys.all_streams, count=SCAN_COUNT, **where
        )
        if isinstance(cursor, dict):  # of a cluster: by node
            (cursor,) = cursor.values()
        self._cursors[name] = cursor
        return cursor, keys

    async def _nodes(self) -> list[Any]:
        """Returns the nodes of a cluster that have keys; of a server alone None."""
        if not self._clustered:
            return [None]
        await self._client.initialize()
        return list(self._client.get_primaries())

    async def streams(
        self, names: Sequence[str], most: int
    ) -> tuple[dict[str, Counted], dict[str, CameraSaid], set[str]]:
        """Reads the hashes of streams and of their cameras, at most so many; with more streams each has its turn.

        Returns:
            What the workers say, what the publishers say, and the streams that were read.
        """
        begin = self._turn % max(len(names), 1)
        chosen = [*names[begin:], *names[:begin]][:most]
        self._turn = begin + len(chosen)
        facts: dict[str, Counted] = {}
        cameras: dict[str, CameraSaid] = {}
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            pipeline = self._client.pipeline(transaction=False)
            for name in part:
                pipeline.hmget(self._keys.stream(name), HASH_FIELDS)
                pipeline.hmget(self._keys.camera(name), CAMERA_FIELDS)
            self._note("hmget", 2 * len(part))
            replies = await _replies(pipeline)
            for name, counted, camera in zip(part, replies[::2], replies[1::2], strict=True):
                # An error of the server: the key has another type, or may not be read.
                if not isinstance(counted, redis.ResponseError) and (found := counted_from(_values(counted))):
                    facts[name] = found
                if not isinstance(camera, redis.ResponseError) and (said := camera_from(_values(camera))):
                    cameras[name] = said
        return facts, cameras, set(chosen)

    async def camera(self, name: str) -> tuple[dict[str, str], dict[str, str]]:
        """Returns all that is kept of one stream, and all that its publisher says, as text."""
        self._note("hgetall", 2)
        stream = await self._client.hgetall(self._keys.stream(name))
        camera = await self._client.hgetall(self._keys.camera(name))
        return _shown(stream), _shown(camera)

    async def picture(self, name: str) -> bytes | None:
        """Returns the last annotated picture of a stream, a JPEG; None if there is none."""
        self._note("get", 1)
        picture: bytes | None = await self._client.get(self._keys.preview(name))
        self._load.redis_bytes.inc(len(picture or b""))
        return picture

    async def find_partitions(self) -> None:
        """Reads how many partitions the queue has."""
        self._note("get", 1)
        try:
            number = await self._client.get(self._keys.number_key)
        except redis.ResponseError as error:
            if isinstance(error, redis.exceptions.ClusterError) or failure_code(error) != "WRONGTYPE":
                raise
            return
        if len(number or b"") < 10 and (number or b"1").isdigit():
            self._keys = QueueKeys(self._keys.prefix, max(1, int(number or 1)))

    async def queue(self) -> dict[str, Any]:
        """Returns the lengths of the queue, what waits in it, its workers and the accounting, of all partitions together."""
        partitions = list(itertools.islice(self._keys.partitions, MOST_PARTITIONS))
        read = [await self._partition(keys) for keys in partitions]
        accounting: Counter[str] = Counter()
        workers: dict[str, dict[str, object]] = {}
        for each in read:
            accounting.update(each["accounting"])
            for worker in each["workers"]:
                known = workers.get(worker["name"], {"pending": 0, "idle_s": worker["idle_s"]})
                worker["pending"] += known["pending"]
                worker["idle_s"] = min(worker["idle_s"], known["idle_s"])
                workers[worker["name"]] = worker
        oldest = [each["oldest_pending_at"] for each in read if each["oldest_pending_at"]]
        return {
            "accounting": dict(accounting),
            **{name: _sum(each[name] for each in read) for name in ("dropped", "frames", "counts", "dead")},
            **{name: _sum(each[name] for each in read) for name in ("lag", "pending")},
            "oldest_pending_at": min(oldest) if oldest else None,
            "workers": list(workers.values())[:MOST_CONSUMERS],
            "partitions": self._keys.number,
            "each": [
                {
                    "frames": each["frames"],
                    "lag": each["lag"],
                    "pending": each["pending"],
                    "readers": len(each["workers"]),
                }
                for each in read
            ]
            if len(read) > 1
            else [],
        }

    async def _partition(self, keys: PartitionKeys) -> dict[str, Any]:
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
            None if isinstance(reply, Exception) else reply for reply in await _replies(pipeline)
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
                for each in consumers or ()
            ],
        }

    async def server(self) -> dict[str, object]:
        """Returns what Redis says about itself, as far as the user may read it."""
        nodes = await self._nodes()
        self._note("info", len(nodes))
        began = time.monotonic()
        try:
            infos = [await self._client.info(**({} if node is None else {"target_nodes": node})) for node in nodes]
        except redis.ResponseError:  # without the permission the rest of the page works
            return {}
        info = infos[0]
        known = ("used_memory", "maxmemory", "connected_clients", "instantaneous_ops_per_sec", "evicted_keys")
        version = info.get("valkey_version") or info.get("redis_version", "")
        return {
            "version": str(version),
            "name": "Valkey" if "valkey_version" in info else "Redis",
            "answers_ms": round((time.monotonic() - began) / len(nodes) * 1000, 1),
            "nodes": len(nodes),
            "policy": str(info.get("maxmemory_policy", "")),
            **{name: sum(each[name] for each in infos) for name in known if isinstance(info.get(name), int)},
        }

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _note(self, what: str, number: int) -> None:
        self._load.redis_commands.labels(what).inc(number)


def limits_keys(config_key: str) -> tuple[str, str, str]:
    """Returns the keys of the limits, the patterns and the boosts; in a cluster each may be on another node."""
    return config_key, f"{config_key}:patterns", f"{config_key}:boosts"


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


async def _replies(pipeline: Any) -> list[Any]:
    """Returns the replies of a pipeline, among them errors of commands.

    Raises:
        redis.RedisError: A server, or a node of the cluster, can't be reached or doesn't serve a key.
    """
    try:
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error
    for reply in replies:
        if isinstance(reply, RedisClusterException):
            raise redis.ConnectionError(str(reply)) from reply
        if isinstance(reply, redis.exceptions.ClusterError) or (
            isinstance(reply, redis.RedisError) and not isinstance(reply, redis.ResponseError)
        ):
            raise reply
    return replies


def _values(reply: Any) -> list[bytes | None]:
    """Returns the values of a reply; raises it if it is an error of the connection."""
    if isinstance(reply, Exception):
        raise reply
    values: list[bytes | None] = reply
    return values


def _shown(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {decode_name(field): value.decode(errors="replace") for field, value in fields.items()}


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Returns the sum; None if no number is known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
