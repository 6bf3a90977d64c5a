"""Cameras that answer each request with one picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import av

from worker.picture_files import decode_any, is_jpeg_or_png
from worker.picture_header import size
from worker.publish.capture import Times
from worker.publish.container import open_container
from worker.publish.failure import why_ended
from worker.publish.options import Reception
from worker.publish.source import Encode, SourceError, SourceFrame
from worker.publish.thinning import Due

_MOST_BYTES = 50_000_000
"""Of a picture. A server that sends more isn't a camera's."""


class Snapshots:
    """Asks for pictures at an even pace, but only when one is due."""

    def __init__(self, fetch: Callable[[], bytes], fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes a function that returns the next picture or raises SourceError, and how often to ask at most, per second."""
        self.why_ended = ""
        self.codec = ""
        self._fetch = fetch
        self._period = 1 / fps
        self._clock = clock

    def frames(self, times: Times, due: Due, encode: Encode, stop: threading.Event) -> Iterator[SourceFrame]:
        """Yields pictures until `stop` is set or a request fails; without a picture, the times at which none is due."""
        ask_at = self._clock()
        while not stop.wait(max(0.0, ask_at - self._clock())):
            now = self._clock()
            ask_at = (ask_at if now - ask_at < self._period else now) + self._period
            if not due.is_due(times.arrives(0.0)):
                yield SourceFrame(times.left_out(0.0), None)
                continue
            try:
                content = self._fetch()
            except SourceError as error:
                self.why_ended = str(error)
                return
            times.arrives(0.0)
            yield SourceFrame(times.ts(0.0), partial(_encoded, content, encode))

    def close(self) -> None:
        """Does nothing: each request has its own connection."""


def fetch(url: str, name: str, reception: Reception) -> bytes:
    """Returns what a URL has now, by FFmpeg's ways to log in. Raises SourceError."""
    content = bytearray()
    with open_container(url, name, reception, kind="data", options={"raw_packet_size": "65536"}) as container:
        try:
            for packet in container.demux():
                content += bytes(packet)
                if len(content) > _MOST_BYTES:
                    raise SourceError(f"{name}: what it sends isn't a picture, but more than {_MOST_BYTES} bytes")
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{name}: {why_ended(error, reception.timeout)}") from None
    return bytes(content)


def _encoded(content: bytes, encode: Encode) -> bytes:
    if is_jpeg_or_png(content):
        size(content)  # the worker decodes it
        return content
    return encode(decode_any(content))
