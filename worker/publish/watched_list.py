"""Notices that cameras.yaml, or a file that it names, was written anew: edited, replaced, or mounted from a ConfigMap."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from worker.publish.cameras_file import CamerasFile, CamerasFileError, read_cameras

logger = logging.getLogger(__name__)

_Version = tuple[int, int, int, int] | None
"""Of a file: device, inode, time of the last change in nanoseconds, bytes; None: there is none."""


class WatchedList:
    """The cameras in a file, read again whenever it has changed. While it can't be used, the last valid list stays.

    It is read when it is the same at two looks, because somebody may be writing it: the first lines of a list may be a valid
    list, without the cameras of the others.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str] = os.environ,
        read: Callable[[Path, Mapping[str, str]], CamerasFile] = read_cameras,
    ) -> None:
        """Reads it. Raises CamerasFileError."""
        self._path = path
        self._environ = environ
        self._read = read
        self._seen: dict[Path, _Version] = {path: _version(path)}
        self._changing: dict[Path, _Version] = {}
        """What was found at the last look, if that was new."""
        self.current = read(path, environ)
        """The last valid list."""
        self.error: CamerasFileError | None = None
        """Why the newest version can't be used."""
        self._note(self.current.depends_on)

    def changed(self) -> bool:
        """Looks at the file; returns whether there is a new list."""
        now = {path: _version(path) for path in self._seen}
        before, self._changing = self._changing, {}
        if now == self._seen:
            return False
        if now != before:
            self._changing = now
            return False
        self._seen = now
        try:
            new = self._read(self._path, self._environ)
        except CamerasFileError as error:
            self.error = error
            self._note(error.depends_on)
            for line in error.lines:
                logger.error("%s", line)
            logger.error(
                "the cameras stay as they are", extra={"file": str(self._path), "cameras": len(self.current.cameras)}
            )
            return False
        self.error, self.current = None, new
        self._note(new.depends_on)
        return True

    def _note(self, depends_on: Iterable[Path]) -> None:
        """Notes the versions of the files that were read. One that is changed just now is read once more."""
        paths = (self._path, *depends_on)
        self._seen = {path: self._seen[path] if path in self._seen else _version(path) for path in paths}


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
