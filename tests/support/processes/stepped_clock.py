"""A wall clock of a program that a test can step: tests must not change the clock of the machine."""

import os
from pathlib import Path

from support.processes.programs import REPOSITORY

# Python runs this before anything else.
_SITECUSTOMIZE = """
import os, time
real, path = time.time, os.environ["CLOCK_OFFSET_FILE"]
def stepped():
    with open(path) as file:
        return real() + float(file.read() or 0)
time.time = stepped
"""


class SteppedClock:
    """The wall clock of a process that starts with the environment of this object.

    Args:
        folder: an empty folder, which must exist as long as the process runs.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self._file = folder / "offset"
        path = os.pathsep.join(map(str, (folder, REPOSITORY, REPOSITORY / "proto")))
        self.environment = {"PYTHONPATH": path, "CLOCK_OFFSET_FILE": str(self._file)}
        self.step_to(0.0)

    def step_to(self, offset_s: float) -> None:
        """Sets the clock's offset, seconds."""
        new = self._file.with_suffix(".new")
        new.write_text(str(offset_s))
        new.rename(self._file)
