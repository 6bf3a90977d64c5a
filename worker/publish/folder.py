"""Folders of pictures as sources: those that are there, or those that a camera uploads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from worker.picture_files import decode_any, is_jpeg_or_png, pictures_in
from worker.picture_header import PICTURE_SUFFIXES, PictureError, size
from worker.publish.arrival import ArrivalTimes
from worker.publish.source import Encode, SourceError, SourceFrame
from worker.publish.thinning import Due

logger = logging.getLogger(__name__)

_LOOK_S = 0.2
"""Seconds between two looks into a watched folder. A picture that is the same in both is complete."""

_SHARE_OF_TIME = 10
"""How many times as long as a look the pause after it is, so that a folder of very many files doesn't take a processor."""

_Version = tuple[int, int]
"""When a file was last written, nanoseconds, and its bytes."""


class Folder:
    """The pictures of a folder in order of their names and numbers, at an even pace; JPEG and PNG aren't encoded again."""

    live = False
    codec = ""

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
            return _read(path, self._encode)
        except PictureError:
            self._paths.remove(path)
            raise


class WatchedFolder:
    """The pictures that arrive in a folder, such as those that a camera uploads, also over and over under one name."""

    live = True
    codec = ""
    paced = False

    def __init__(self, name: str, encode: Encode, clock: Callable[[], float] = time.time) -> None:
        """Takes a folder; what is in it now isn't published. The clock returns Unix seconds."""
        self._folder = Path(name)
        self._encode = encode
        self._times = ArrivalTimes(clock)
        self._unreadable = False
        self._known = self._look() or {}

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields pictures once they are complete, until `stop` is set. Their capture time is the time of their arrival."""
        pending: dict[Path, _Version] = {}
        pause = _LOOK_S
        while not stop.wait(pause):
            began = time.monotonic()
            found = self._look()
            if found is None:
                continue
            changed = {path: version for path, version in found.items() if self._known.get(path) != version}
            complete = [path for path, version in changed.items() if pending.get(path) == version and version[1]]
            pending = changed
            self._known = {path: version for path, version in self._known.items() if path in found}
            pause = max(_LOOK_S, _SHARE_OF_TIME * (time.monotonic() - began))
            for path in complete:
                self._known[path] = pending.pop(path)
                self._times.arrives(0.0)
                yield SourceFrame(self._times.ts(0.0), partial(_read, path, self._encode))

    def _look(self) -> dict[Path, _Version] | None:
        """Returns the pictures in natural order, None while the folder can't be read."""
        found: dict[Path, _Version] = {}
        try:
            for path in pictures_in(self._folder):
                with suppress(FileNotFoundError):  # deleted since
                    status = path.stat()
                    found[path] = status.st_mtime_ns, status.st_size
        except OSError as error:
            if not self._unreadable:
                reason = error.strerror or str(error)
                logger.warning(
                    "the folder can't be read; retrying", extra={"folder": str(self._folder), "reason": reason}
                )
            self._unreadable = True
            return None
        if self._unreadable:
            logger.info("the folder can be read again", extra={"folder": str(self._folder)})
        self._unreadable = False
        return found


def _read(path: Path, encode: Encode) -> bytes:
    """Returns a picture as JPEG or PNG. Raises PictureError, with the path."""
    try:
        content = path.read_bytes()
        if is_jpeg_or_png(content):
            size(content)  # the worker decodes it
            return content
        return encode(decode_any(content))
    except (OSError, PictureError) as error:
        raise PictureError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
