"""The kinds of sources that can be published, and their common interface."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from worker.picture import Picture
from worker.synthetic.spec import PREFIX, parse_synthetic

Encode = Callable[[Picture], bytes]
"""Encodes a picture as JPEG."""

LIVE_SCHEMES = ("rtsp", "rtsps", "http", "https")
LAST_WEBCAM = 99
"""OpenCV interprets numbers from 100 as an index and a driver."""

_FILM_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""Suffixes by which an HTTP URL is a film's; any other URL is a camera's."""


class SourceError(Exception):
    """A source can't be read; the text has its name and the reason."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame on its way to the queue."""

    ts: float
    """Capture time, Unix seconds."""
    picture: bytes
    """JPEG or PNG."""


class Source(Protocol):
    """Something whose frames can be published."""

    live: bool
    """Whether it continues regardless of Redis: frames that can't be published in time are dropped, while a film waits."""
    paced: bool
    """Whether the publisher waits for the frames' capture times; those of a camera are their times of arrival."""

    def frames(self, stop: threading.Event) -> Iterator[Captured]:
        """Yields the frames, once; ends soon after `stop` is set. Raises SourceError."""
        ...


class Kind(enum.Enum):
    """The kinds of sources."""

    SYNTHETIC = enum.auto()
    WEBCAM = enum.auto()
    CAMERA_URL = enum.auto()
    FILM = enum.auto()
    FOLDER = enum.auto()


def kind_of(source: str) -> Kind:
    """Returns the kind of a user's SOURCE, which may still be missing. Raises ValueError if it can't be any kind."""
    if not source:
        raise ValueError("expected a file, a folder, a webcam's index, a URL or synthetic:")
    if source.startswith(PREFIX) or source == PREFIX.rstrip(":"):
        parse_synthetic(source)
        return Kind.SYNTHETIC
    if source.isascii() and source.isdigit():
        if int(source) > LAST_WEBCAM:
            raise ValueError(f"expected a webcam's index, 0 to {LAST_WEBCAM}")
        return Kind.WEBCAM
    scheme, colons, _ = source.partition("://")
    if colons:
        if scheme.lower() not in LIVE_SCHEMES:
            raise ValueError(f"expected a URL that begins with {', '.join(LIVE_SCHEMES)}")
        parts = urlsplit(source)
        if not parts.hostname or parts.port == 0:  # the property raises ValueError for an invalid port
            raise ValueError("expected a URL with a host, as in rtsp://camera.local/stream")
        return (
            Kind.FILM if parts.path.lower().endswith(_FILM_SUFFIXES) and scheme.startswith("http") else Kind.CAMERA_URL
        )
    return Kind.FOLDER if Path(source).is_dir() else Kind.FILM
