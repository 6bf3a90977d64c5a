"""Sources whose frames have capture times of their own: films, folders of pictures, simulated cameras."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from worker.picture import Picture
from worker.picture_files import decode_any, is_jpeg_or_png, pictures_in
from worker.picture_header import PICTURE_SUFFIXES, PictureError, size
from worker.publish.capture import Capture, open_url
from worker.publish.source import Encode, SourceError, SourceFrame
from worker.publish.thinning import Due
from worker.publish.timeline import Timeline
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec

logger = logging.getLogger(__name__)

_UNKNOWN_FPS = 25.0


class Film:
    """A video file, with its own timestamps."""

    live = False

    def __init__(
        self, name: str, address: Callable[[], str], encode: Encode, *, start: float, loop: bool, paced: bool
    ) -> None:
        """Opens the file, so that an error comes before the first frame is published.

        Takes a name for logs, and a function that returns the path or the URL each time the film is opened.

        Raises:
            SourceError: it can't be opened.
        """
        self.paced = paced
        self._name = name
        self._encode = encode
        self._start = start
        self._loop = loop
        self._address = address
        self._capture: Capture | None = self._open()

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields the frames, over and over if it loops."""
        capture = self._capture or self._open()
        self._capture = None
        timeline = Timeline(self._start, 1 / (capture.fps or _UNKNOWN_FPS))
        try:
            while True:
                number = 0
                while not stop.is_set() and capture.grab():
                    frame = capture.retrieve()
                    if frame is None:
                        continue
                    number += 1
                    yield SourceFrame(timeline.ts(capture.position), partial(capture.encoded, frame, self._encode))
                if stop.is_set():
                    return
                if not number:
                    raise SourceError(f"{self._name}: {capture.undecodable}")
                if not self._loop:
                    return
                timeline.loop()
                capture.close()
                capture = self._open()
        finally:
            capture.close()

    def _open(self) -> Capture:
        address = self._address()
        if "://" not in address:
            if not (Path(address).is_file() or Path(address).is_fifo()):
                raise SourceError(f"{self._name}: no such file or folder")
            address = f"file:{address}"  # else FFmpeg takes what precedes a colon for a protocol
        return open_url(address, self._name)


class Folder:
    """The pictures of a folder in order of their names and numbers, at an even pace; JPEG and PNG aren't encoded again."""

    live = False

    def __init__(self, name: str, encode: Encode, *, fps: float, start: float, loop: bool, paced: bool) -> None:
        """Lists the folder. Raises SourceError if it has no pictures."""
        try:
            self._paths = pictures_in(Path(name))
        except OSError as error:
            raise SourceError(f"{name}: {error.strerror or error}") from error
        if not self._paths:
            raise SourceError(f"{name}: there are no pictures in this folder ({', '.join(PICTURE_SUFFIXES)})")
        self.paced = paced
        self._name = name
        self._encode = encode
        self._fps = fps
        self._start = start
        self._loop = loop

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields the pictures; one that can't be read isn't tried again."""
        index = 0
        while True:
            for path in list(self._paths):
                if stop.is_set():
                    return
                yield SourceFrame(self._start + index / self._fps, partial(self._read, path))
                index += path in self._paths  # one that can't be read takes no place in time
            if not self._paths:
                raise SourceError(f"{self._name}: none of the pictures in this folder can be read")
            if not self._loop:
                return

    def _read(self, path: Path) -> bytes:
        try:
            content = path.read_bytes()
            if is_jpeg_or_png(content):
                size(content)  # the worker decodes it
                return content
            return self._encode(decode_any(content))
        except (OSError, PictureError) as error:
            self._paths.remove(path)
            raise PictureError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


class SimulatedCamera:
    """A simulated camera: like a live one it doesn't wait for Redis, but its capture times follow its specification."""

    def __init__(
        self, spec: SyntheticSpec, encode: Encode, *, paced: bool, clock: Callable[[], float] = time.time
    ) -> None:
        """Draws the hands; the clock returns the capture time of the first frame, Unix seconds."""
        self.live = paced
        self.paced = paced
        self._spec = spec
        self._encode = encode
        self._clock = clock
        self._start = 0.0
        self._camera = SyntheticCamera(spec)

    def true_hands(self, ts: float) -> int:
        """Returns the true number of hands in the frame with this capture time."""
        return self._camera.true_hands(self._index(ts))

    def picture(self, ts: float) -> Picture:
        """Returns the frame with this capture time."""
        return self._camera.frame(self._index(ts))

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields frames without end; the first one's capture time is the time of the call."""
        self._start = self._clock()
        index = 0
        while not stop.is_set():
            yield SourceFrame(self._start + self._spec.position(index), partial(self._draw, index))
            index += 1

    def _draw(self, index: int) -> bytes:
        return self._encode(self._camera.frame(index))

    def _index(self, ts: float) -> int:
        return round((ts - self._start) * self._spec.fps)  # jitter stays below half a period
