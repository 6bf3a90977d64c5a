"""The queue as a publisher sees it: everything that publishing says to Redis."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from pathlib import Path

import redis

from process.backoff import Backoff
from worker.publish.source import Captured
from worker.queue.frame import encode_entry
from worker.queue.keys import Keys

logger = logging.getLogger(__name__)

_SCRIPT = Path(__file__).parent / "publish.lua"


class FrameQueue:
    """Publishes the frames of one stream, each exactly once, however often that takes.

    Picture and entry are written by one script that does nothing where the picture's key exists already. So a frame
    whose reply was lost is simply published again: an entry written twice, which a repeated XADD makes, can't happen
    while the picture lives.
    """

    def __init__(
        self, client: redis.Redis, keys: Keys, stream_name: str, *, payload_ttl: float, max_queue: int, backoff: Backoff
    ) -> None:
        """Takes a client that repeats nothing by itself; the time to live in seconds, the cap in entries."""
        self._script = client.register_script(_SCRIPT.read_text())
        self._keys = keys
        self._stream_name = stream_name
        self._ttl_ms = max(1, round(payload_ttl * 1000))
        self._max_queue = max_queue
        self._backoff = backoff
        self._run = secrets.token_hex(8)
        self._number = 0
        self._away_since: float | None = None

    def publish(self, frame: Captured, give_up: threading.Event) -> bool:
        """Publishes a frame, trying until it succeeds; False if told to give up before that."""
        self._number += 1
        key = self._keys.payload(f"{self._run}:{self._number}")
        entry = encode_entry(self._stream_name, frame.ts, key)
        words = [word for pair in entry.items() for word in pair]
        while True:
            try:
                self._script([self._keys.frames, key], [frame.picture, self._ttl_ms, self._max_queue, *words])
            except redis.RedisError as error:
                self._say_away(error)
            else:
                self._say_back()
                return True
            if give_up.wait(self._backoff.next()):
                return False

    def _say_away(self, error: redis.RedisError) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning("Redis is away, trying again until it's back (%s: %s)", type(error).__name__, error)

    def _say_back(self) -> None:
        self._backoff.reset()
        if self._away_since is not None:
            logger.info("Redis is back after %.1f s", time.monotonic() - self._away_since)
            self._away_since = None
