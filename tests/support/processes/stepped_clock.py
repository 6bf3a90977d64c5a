"""The wall clock of a program of ours, stepped at will: the real clock of the machine is nothing a test may touch."""

import os
from pathlib import Path

from support.processes.programs import REPOSITORY

# Python runs it before anything else.
_SITECUSTOMIZE = """
import os, time
real, path = time.time, os.environ["CLOCK_OFFSET_FILE"]
def stepped():
    with open(path) as file:
        return real() + float(file.read() or 0)
time.time = stepped
"""


class SteppedClock:
    """The wall clock of a process that is started with its environment.

    Args:
        folder: an empty one, which must stay as long as the process runs.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self._file = folder / "offset"
        path = os.pathsep.join(map(str, (folder, REPOSITORY, REPOSITORY / "proto")))
        self.environment = {"PYTHONPATH": path, "CLOCK_OFFSET_FILE": str(self._file)}
        self.step_to(0.0)

    def step_to(self, offset_s: float) -> None:
        """Sets how far the clock is off, seconds."""
        new = self._file.with_suffix(".new")
        new.write_text(str(offset_s))
        new.rename(self._file)
