"""What a publisher can publish: the kinds of sources, and what they all give."""

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
"""Turns a picture into a JPEG."""

LIVE_SCHEMES = ("rtsp", "rtsps", "http", "https")
MOST_WEBCAMS = 99
"""From 100 on, OpenCV takes a number for an index and a driver."""

_FILM_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""What a web address of a film ends in; any other is taken for a camera's."""


class SourceError(Exception):
    """A source can't be read; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame on its way to the queue."""

    ts: float
    """Capture time, Unix seconds."""
    picture: bytes
    """JPEG or PNG."""


class Source(Protocol):
    """Gives frames, once."""

    live: bool
    """Whether it goes on by itself: what can't be sent in time is lost, where a film waits."""
    paced: bool
    """Whether its capture times are its own, to be waited for; a camera's are the time at which they come."""

    def frames(self, stop: threading.Event) -> Iterator[Captured]:
        """Yields the frames; returns at the end or soon after `stop` is set. Raises SourceError."""
        ...


class Kind(enum.Enum):
    """Where frames can come from."""

    SYNTHETIC = enum.auto()
    WEBCAM = enum.auto()
    CAMERA_URL = enum.auto()
    FILM = enum.auto()
    FOLDER = enum.auto()


def kind_of(source: str) -> Kind:
    """Tells what a user's SOURCE is, not yet whether it's there. Raises ValueError if it can't be any."""
    if not source:
        raise ValueError("expected a file, a folder, a webcam's index, a URL or synthetic:")
    if source.startswith(PREFIX) or source == PREFIX.rstrip(":"):
        parse_synthetic(source)
        return Kind.SYNTHETIC
    if source.isascii() and source.isdigit():
        if int(source) > MOST_WEBCAMS:
            raise ValueError(f"expected a webcam's index, 0 to {MOST_WEBCAMS}")
        return Kind.WEBCAM
    scheme, colons, _ = source.partition("://")
    if colons:
        if scheme.lower() not in LIVE_SCHEMES:
            raise ValueError(f"expected a URL that begins with {', '.join(LIVE_SCHEMES)}")
        parts = urlsplit(source)
        if not parts.hostname or parts.port == 0:  # reading the port raises ValueError for nonsense
            raise ValueError("expected a URL with a host, as in rtsp://camera.local/stream")
        return (
            Kind.FILM if parts.path.lower().endswith(_FILM_SUFFIXES) and scheme.startswith("http") else Kind.CAMERA_URL
        )
    return Kind.FOLDER if Path(source).is_dir() else Kind.FILM
