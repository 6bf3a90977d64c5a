"""The publisher's side of the queue: writes frames to Redis."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from pathlib import Path

import redis

from process.backoff import Backoff
from worker.publish.source import Captured
from worker.queue.failures import failure_in_words
from worker.queue.frame import encode_entry
from worker.queue.keys import Keys
from worker.queue.permissions import log_missing_permissions, missing_permissions, publisher_probes

logger = logging.getLogger(__name__)

_ROOM_S = 0.1
"""Seconds between two looks whether a full queue has room again."""

FILM_ROOM = 1000
"""From how many entries that aren't settled, of all streams, a frame that isn't live waits: what workers need not to idle."""

FILM_TTL_S = 86_400.0
"""How long the pictures of such frames stay if no worker counts them. They are few, and deleted once they are counted."""

_SCRIPT = Path(__file__).parent / "publish.lua"


class FrameQueue:
    """Publishes the frames of one stream, each exactly once, in as many attempts as it takes.

    One script writes picture, entry and the frame's number, or nothing; it does nothing if the number is there already. So
    a frame whose reply was lost can be published again without a second entry, which a repeated XADD would create. The
    picture's key wouldn't show it, because a worker may have settled the entry meanwhile and deleted the picture.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        stream_name: str,
        *,
        payload_ttl: float,
        max_queue: int,
        backoff: Backoff,
        waits: bool = False,
        live: bool = True,
    ) -> None:
        """Takes a client that doesn't retry; the payload's TTL in seconds, the queue's cap in entries.

        If the queue is full of entries that no worker has settled, a source that can wait waits for room. Otherwise the
        oldest entries are pushed out, of whichever stream they are. Frames that aren't live are counted however long they
        wait, so they leave most of the room to others, and their pictures stay until then.
        """
        self.pushed_out = 0
        """Entries that frames of this publisher pushed out of the full queue before any worker read them."""
        self._client = client
        self._permissions_checked = False
        self._script = client.register_script(_SCRIPT.read_text())
        self._keys = keys
        self._stream_name = stream_name
        self._ttl_ms = max(1, round((payload_ttl if live else max(payload_ttl, FILM_TTL_S)) * 1000))
        self._max_queue = max_queue
        self._backoff = backoff
        self._full: int | str = "drop"
        """From how many entries that aren't settled it waits, or else that it doesn't."""
        if waits:
            self._full = max_queue if live else min(max_queue, FILM_ROOM)
        self._live = live
        self._was_full = False
        self._run = secrets.token_hex(8)
        self._number = 0
        self._failing_since: float | None = None

    def publish(self, frame: Captured, cancelled: threading.Event) -> bool:
        """Publishes a frame, retrying until that succeeds; returns False if it is cancelled before."""
        self._number += 1
        key = self._keys.payload(f"{self._run}:{self._number}")
        entry = encode_entry(self._stream_name, frame.ts, key, live=self._live)
        words = [word for pair in entry.items() for word in pair]
        while True:
            try:
                self._report_missing_permissions()
                given: list[bytes | str | int] = [
                    frame.picture,
                    self._ttl_ms,
                    self._max_queue,
                    self._full,
                    self._number,
                    *words,
                ]
                reply = int(self._script([self._keys.frames, key, self._keys.payload(self._run)], given))
            except redis.RedisError as error:
                self._failed(error)
                pause = self._backoff.next()
            else:
                self._succeeded()
                if reply >= 0:
                    self.pushed_out += max(0, reply - 1)
                    return True
                self._report_full()
                pause = _ROOM_S
            if cancelled.wait(pause):
                return False

    def _report_full(self) -> None:
        if not self._was_full:  # it may be full again after each frame
            self._was_full = True
            about = {"stream": self._stream_name, "entries": self._full}
            if self._live:
                logger.warning("the queue is full; waiting until workers make room", extra=about)
            else:
                logger.info(
                    "as many frames as the workers need wait in the queue; publishing at their pace", extra=about
                )

    def _report_missing_permissions(self) -> None:
        if not self._permissions_checked:
            log_missing_permissions(missing_permissions(self._client, publisher_probes(self._keys)))
            self._permissions_checked = True

    def _failed(self, error: redis.RedisError) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            what, about = failure_in_words(error)
            logger.warning("%s; retrying", what, extra={"stream": self._stream_name, **about})

    def _succeeded(self) -> None:
        self._backoff.reset()
        if self._failing_since is not None:
            seconds = round(time.monotonic() - self._failing_since, 1)
            logger.info("Redis works again", extra={"stream": self._stream_name, "outage_seconds": seconds})
            self._failing_since = None
