"""Where it is kept which way of running is the fastest: a small file for each device, torch and network."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class TuningCache:
    """What was measured for one device, torch and network.

    Args:
        folder: of the files; is made if it isn't there.
        about: all that the answer depends on.
    """

    def __init__(self, folder: Path, about: Mapping[str, object]) -> None:
        self._folder = folder
        self._about = json.loads(json.dumps(dict(about)))
        digest = hashlib.sha256(json.dumps(self._about, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"hamer-{digest[:16]}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out, so that those that start together measure once; without a folder does nothing."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("w")
        except OSError as error:
            self._complain(error)
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def get(self) -> Any:
        """Returns the answer; None if there is none, or none that can be read."""
        try:
            kept = json.loads(self.path.read_text())
            return kept["chosen"] if kept["about"] == self._about else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, chosen: Mapping[str, object], figures: Mapping[str, float]) -> None:
        """Keeps an answer, with the figures for people. A folder that can't be written is logged."""
        text = json.dumps({"about": self._about, "chosen": dict(chosen), "microseconds": dict(figures)}, indent=1)
        try:
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as file:
                file.write(text)
            os.replace(file.name, self.path)  # noqa: PTH105
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        about = {"folder": str(self._folder), "reason": error.strerror or str(error)}
        logger.warning("what was measured can't be kept; each start measures again", extra=about)
