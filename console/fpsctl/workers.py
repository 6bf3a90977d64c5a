"""What workers and publishers say about streams in Redis: the hashes that docs/results.md and docs/cameras.md describe.

What the user of Redis may not read is absent; :attr:`Workers.problem` says so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import redis

from console.control.capacity import full_rate, given_up
from console.control.connection import Client
from console.control.failures import failure_in_words
from console.control.names import quoted

SCAN_COUNT: Final = 1000
MOST_SCANS: Final = 300
"""Steps of one search for streams: some 300,000 keys. The next search continues where it ended."""
BATCH: Final = 500
MOST_PARTITIONS: Final = 4096
"""As many as workers accept."""
_DIGITS: Final = re.compile("[0-9]{1,18}")
_STREAM_OR_CAMERA: Final = ":[sc][ta][rm]e[ar][ma]:*"
"""The end of a glob that the hashes of streams and cameras match, and pictures don't."""

STREAM_FIELDS: Final = (
    "heard_at", "counted_at", "hand_count", "source_fps", "counted_fps", "age", "last_skip",
    "received", "admitted", "counted", "skipped", "dead",
    "skipped:too_soon", "skipped:paused", "skipped:superseded", "skipped:stale", "skipped:late", "skipped:duplicate",
    "skipped:payload_expired", "skipped:limit_unknown",
)  # fmt: skip
"""What is read of a stream's hash."""
CAMERA_FIELDS: Final = (
    "state",
    "since",
    "source",
    "error",
    "error_at",
    "codec",
    "size",
    "source_fps",
    "host",
    "updated_at",
    "max_queue",
)
"""What is read of a camera's hash."""


SAMPLE_S: Final = 3.0
"""How long the workers' counters are watched, in order to know what they count per second."""


class Workers:
    """One queue. For one thread."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix
        self._cursors: dict[str, int] = {}
        self._known: set[str] = set()
        self.problem = ""
        """Why a part can't be read, for people; empty if all of it can."""

    def names(self, most_scans: int = MOST_SCANS) -> set[str]:
        """Searches for the streams of which there is a hash, and returns those found so far.

        In a very large Redis each call finds a part of them; the next one continues where it ended.

        Args:
            most_scans: steps of the search on each server, of some 1,000 keys.
        """
        marker = re.compile(re.escape(f"{{{self._prefix}") + r"(?::\d+)?\}:(?:stream|camera):(.*)", re.DOTALL)
        pattern = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in f"{{{self._prefix}") + "*"
        try:
            for key in self._keys(pattern + _STREAM_OR_CAMERA, most_scans):
                if match := marker.fullmatch(key):
                    self._known.add(match[1])
        except redis.ResponseError as error:
            self._note(error)
        return set(self._known)

    def forget(self, names: Iterable[str]) -> None:
        """Forgets streams that have no hash any more, until a search finds them again."""
        self._known.difference_update(names)

    def streams(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Returns the hashes of streams, by name, each with those of :data:`STREAM_FIELDS` that it has."""
        return self._hashes(names, "stream", STREAM_FIELDS)

    def cameras(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Returns the hashes of cameras, by name, each with those of :data:`CAMERA_FIELDS` that it has."""
        return self._hashes(names, "camera", CAMERA_FIELDS)

    def partitions(self) -> int:
        """Returns how many partitions the queue has; 1 if what Redis says isn't a number that workers accept."""
        try:
            stored = self._client.get(f"{{{self._prefix}}}:partitions") or "1"
        except redis.ResponseError:
            return 1
        if _DIGITS.fullmatch(stored) and 1 <= int(stored) <= MOST_PARTITIONS:
            return int(stored)
        self.problem = self.problem or f"the number of partitions in Redis, {quoted(stored[:20])}, isn't valid"
        return 1

    def tags(self) -> list[str]:
        """Returns the beginnings of the keys of each partition, such as ``{hand_counter}``."""
        number = self.partitions()
        return [f"{{{self._prefix}}}"] if number == 1 else [f"{{{self._prefix}:{index}}}" for index in range(number)]

    def tag(self, name: str, tags: list[str]) -> str:
        """Returns the beginning of the keys of a stream's partition."""
        import zlib

        return tags[zlib.crc32(name.encode(errors="surrogateescape")) % len(tags)]

    def accounting(self) -> dict[str, int]:
        """Returns the counters of all deliveries, the partitions together."""
        total: dict[str, int] = {}
        try:
            for tag in self.tags():
                for name, value in self._client.hgetall(f"{tag}:accounting").items():
                    if _DIGITS.fullmatch(value):
                        total[name] = total.get(name, 0) + int(value)
        except redis.ResponseError as error:
            self._note(error)
        return total

    def _hashes(self, names: Iterable[str], kind: str, fields: tuple[str, ...]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        wanted = sorted(names)
        tags = self.tags() if wanted else []
        try:
            for start in range(0, len(wanted), BATCH):
                part = wanted[start : start + BATCH]
                with self._client.pipeline(transaction=False) as pipeline:
                    for name in part:
                        key = f"{self.tag(name, tags)}:{kind}:{name}".encode(errors="surrogateescape")
                        pipeline.hmget(key, fields)
                    for name, values in zip(part, pipeline.execute(), strict=True):
                        there = {field: value for field, value in zip(fields, values, strict=True) if value is not None}
                        if there:
                            found[name] = there
        except redis.ResponseError as error:
            self._note(error)
        return found

    def _keys(self, pattern: str, most_scans: int) -> Iterator[str]:
        """Yields keys that match, on all nodes, a bounded number of steps; may yield one twice."""
        clustered = isinstance(self._client, redis.RedisCluster)
        nodes: list[Any] = self._client.get_primaries() if clustered else [None]
        for node in nodes:
            where = {"target_nodes": node} if clustered else {}
            for _ in range(most_scans):
                cursor, keys = self._scan(str(node), pattern, where)
                yield from keys
                if cursor == 0:
                    break

    def _scan(self, node: str, pattern: str, where: dict[str, Any]) -> tuple[int, list[str]]:
        answer = self._client.scan(self._cursors.get(node, 0), match=pattern, count=SCAN_COUNT, **where)
        cursor, keys = answer
        if isinstance(cursor, dict):  # of a cluster: by node
            (cursor,) = cursor.values()
        self._cursors[node] = cursor
        return cursor, keys

    def _note(self, error: redis.RedisError) -> None:
        self.problem = self.problem or "what workers say can't be read: " + "; ".join(
            filter(None, failure_in_words(error))
        )


def measured_capacity(workers: Workers) -> float | None:
    """Returns the frames per second that the workers count while they are full, by their own counters.

    Returns None, most often at once, if they aren't full, so that nobody knows how much more they could count.
    """
    before, began = workers.accounting(), time.monotonic()
    if not given_up(before):
        return None
    time.sleep(SAMPLE_S)
    after = workers.accounting()
    return full_rate(before, after, time.monotonic() - began)
