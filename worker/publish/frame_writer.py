"""Writes frames into the queue, those of many streams in one round trip, each exactly once."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from worker.publish.source import Captured
from worker.queue.exchange import Request, exchange
from worker.queue.frame import encode_entry
from worker.queue.keys import Keys

FILM_ROOM = 1000
"""From how many entries that aren't settled, of all streams, a frame that isn't live waits: what workers need not to idle."""

FILM_TTL_S = 86_400.0
"""How long the pictures of such frames stay if no worker counts them. They are few, and deleted once they are counted."""

FULL = -1
"""The script's reply if the frame has to wait."""

_SCRIPT = Path(__file__).parent / "publish.lua"


@dataclass(frozen=True, slots=True)
class NumberedFrame:
    """A frame as it is written. The number shows whether it was written already."""

    client: redis.Redis
    """Of the stream's partition."""
    keys: tuple[str, str, str]
    """Of the script: the queue, the picture, the number."""
    arguments: tuple[bytes | str | int, ...]


class StreamFrames:
    """Numbers the frames of one stream, so that a repetition writes no second entry.

    One script writes picture, entry and the frame's number, or nothing; it does nothing if the number is there already. So
    a frame whose reply was lost can be written again without a second entry, which a repeated XADD would create. The
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
        waits: bool = False,
        live: bool = True,
    ) -> None:
        """Takes the stream's partition, the payload's TTL in seconds and the partition's cap in entries.

        If the queue is full of entries that no worker has settled, a source that can wait waits for room. Otherwise the
        oldest entries are pushed out, of whichever stream they are. Frames that aren't live are counted however long they
        wait, so they leave most of the room to others, and their pictures stay until then.
        """
        self.live = live
        self.room: int | str = "drop"
        """From how many entries that aren't settled it waits, or else that it doesn't."""
        if waits:
            self.room = max_queue if live else min(max_queue, FILM_ROOM)
        self._client = client
        self._keys = keys
        self._stream_name = stream_name
        self._ttl_ms = max(1, round((payload_ttl if live else max(payload_ttl, FILM_TTL_S)) * 1000))
        self._max_queue = max_queue
        self._run = secrets.token_hex(8)
        self._number = 0

    def next(self, frame: Captured) -> NumberedFrame:
        """Returns the stream's next frame. It has to be written, or given up, before the one after it.

        Raises:
            ValueError: the stream's name or the capture time isn't valid.
        """
        self._number += 1
        picture = self._keys.payload(f"{self._run}:{self._number}")
        entry = encode_entry(self._stream_name, frame.ts, picture, live=self.live)
        words = [word for pair in entry.items() for word in pair]
        head = (frame.picture, self._ttl_ms, self._max_queue, self.room, self._number)
        keys = self._keys.frames, picture, self._keys.payload(self._run)
        return NumberedFrame(self._client, keys, (*head, *words))


class FrameWriter:
    """Writes frames. For one thread."""

    def __init__(self) -> None:
        self._text = _SCRIPT.read_text()
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def write(self, frames: Sequence[NumberedFrame]) -> list[int | redis.RedisError]:
        """Writes frames, at most one of each stream, in one round trip to each server.

        Returns:
            For each frame what the script replied: how many entries it pushed out and one more, 0 if it was written before,
            FULL if it has to wait; or why it was refused, or why no reply came, in which case it may be written.
        """
        replies = self._send(frames)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for client in {frames[index].client for index in unknown}:
                with contextlib.suppress(redis.RedisError):
                    client.script_load(self._text)
            again = self._send([frames[index] for index in unknown])
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return replies

    def _send(self, frames: Sequence[NumberedFrame]) -> list[Any]:
        return exchange(
            [
                Request(frame.client, ("EVALSHA", self._sha, len(frame.keys), *frame.keys, *frame.arguments))
                for frame in frames
            ]
        )
