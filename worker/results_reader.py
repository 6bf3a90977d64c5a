"""Reads the results that Redis keeps: those that are there, and those to come."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis

from process.backoff import Backoff
from worker.queue.keys import Keys

PAGE = 500
BLOCK_MS = 500
"""How long one wait for new results lasts; a stop takes no longer to be noticed."""

LOOK_S = 0.2
"""Between two looks at several partitions, which can't be waited for together."""


class StoredResult(NamedTuple):
    """An entry of the results."""

    entry_id: str
    """Of the results, not of the queue: when it was written, milliseconds, and a number."""
    result: str
    """JSON."""

    @property
    def order(self) -> tuple[int, int]:
        """When it was written, comparable."""
        milliseconds, _, number = self.entry_id.partition("-")
        return int(milliseconds), int(number)


class ResultsReader:
    """Reads the results of one queue, of all streams or of one."""

    def __init__(self, client: redis.Redis, keys: Keys, stream_name: str = "") -> None:
        """Takes a client that doesn't retry; an empty name: all streams."""
        self._client = client
        self._counts = keys.counts
        self._stream_name = stream_name.encode()
        self._last_id = "0-0"

    def kept(self, last: int | None = None) -> Iterator[StoredResult]:
        """Yields the results that are kept, or only so many of the newest, oldest first. Raises redis.RedisError."""
        found = self._all_kept()
        yield from found if last is None else deque(found, last)

    def skip_kept(self) -> None:
        """Lets :meth:`follow` begin behind what is kept now. Raises redis.RedisError."""
        newest: Any = self._client.xrevrange(self._counts, count=1)
        self._last_id = newest[0][0].decode() if newest else "0-0"

    def follow(self, done: threading.Event, backoff: Backoff | None = None) -> Iterator[StoredResult]:
        """Yields results as they are written, behind those that were read, until done; waits while Redis can't be used."""
        backoff = backoff or Backoff(0.1, 2.0)
        while not done.is_set():
            try:
                reply: Any = self._client.xread({self._counts: self._last_id}, count=PAGE, block=BLOCK_MS)
            except redis.RedisError:
                done.wait(backoff.next())
                continue
            backoff.reset()
            for _, entries in reply or ():
                yield from self._of_the_stream(entries)

    def new(self) -> list[StoredResult]:
        """Returns the next results behind those that were read, without waiting. Raises redis.RedisError."""
        reply: Any = self._client.xread({self._counts: self._last_id}, count=PAGE)
        return [each for _, entries in reply or () for each in self._of_the_stream(entries)]

    def _all_kept(self) -> Iterator[StoredResult]:
        while entries := self._client.xrange(self._counts, min=f"({self._last_id}", count=PAGE):
            yield from self._of_the_stream(entries)

    def _of_the_stream(self, entries: Any) -> Iterator[StoredResult]:
        for entry_id, fields in entries:
            self._last_id = entry_id.decode()
            if b"result" in fields and (not self._stream_name or fields.get(b"stream_name") == self._stream_name):
                yield StoredResult(self._last_id, fields[b"result"].decode())


class MergedResults:
    """Reads the results of several partitions, in the order in which they were written."""

    def __init__(self, readers: Sequence[ResultsReader]) -> None:
        """Takes a reader of each partition."""
        self._readers = readers

    def kept(self, last: int | None = None) -> Iterator[StoredResult]:
        """Yields the results that are kept, as :meth:`ResultsReader.kept` does. Raises redis.RedisError."""
        found = heapq.merge(*(reader.kept(last) for reader in self._readers), key=lambda each: each.order)
        yield from found if last is None else deque(found, last)

    def skip_kept(self) -> None:
        """Lets :meth:`follow` begin behind what is kept now. Raises redis.RedisError."""
        for reader in self._readers:
            reader.skip_kept()

    def follow(self, done: threading.Event, backoff: Backoff | None = None) -> Iterator[StoredResult]:
        """Yields results as they are written, until done. A partition that can't be read doesn't delay the others."""
        backoff = backoff or Backoff(0.1, 2.0)
        while not done.is_set():
            found: list[StoredResult] = []
            failed = False
            for reader in self._readers:
                try:
                    found += reader.new()
                except redis.RedisError:
                    failed = True
            yield from sorted(found, key=lambda each: each.order)
            if failed:
                done.wait(backoff.next())
            else:
                backoff.reset()
                if not found:
                    done.wait(LOOK_S)
