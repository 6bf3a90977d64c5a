"""What can be published: the common interface of the sources."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from worker.picture import Picture
from worker.publish.thinning import Due

Encode = Callable[[Picture], bytes]
"""Encodes a picture as JPEG. Raises PictureError if that fails."""


class SourceError(Exception):
    """A source can't be read; the text has its name and the reason."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame on its way to the queue."""

    ts: float
    """Capture time, Unix seconds."""
    picture: bytes
    """JPEG or PNG."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A frame of a source. Nothing is spent on it before it is known that it will be published."""

    ts: float
    """Capture time, Unix seconds."""
    encode: Callable[[], bytes] | None
    """Returns it as JPEG or PNG, before the next frame is asked for; None: it wasn't decoded, because it isn't due.

    Raises PictureError.
    """


class Source(Protocol):
    """Something whose frames can be published."""

    live: bool
    """Whether it continues regardless of Redis: frames that can't be published in time are dropped, while a film waits."""
    paced: bool
    """Whether the publisher waits for the frames' capture times; those of a camera are their times of arrival."""
    codec: str
    """FFmpeg's name of what arrives; empty for pictures, and while it isn't known."""

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:
        """Yields the frames, once; ends soon after `stop` is set. Raises SourceError.

        It may leave frames undecoded that `due` is certain to deny, but yields these too.
        """
        ...
