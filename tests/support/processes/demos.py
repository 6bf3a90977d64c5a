"""``hand-counter demo`` as a process, and what it leaves behind."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import programs
from support.waiting import wait_until

LONG = ("--phase-seconds", "60")
"""Flags with which a demo runs until the test ends it."""
START_DEADLINE_S = 240.0
END_DEADLINE_S = 600.0


class Demo:
    """A running demo, with a folder of its own for its temporary files."""

    def __init__(self, program: str, folder: Path, *flags: str) -> None:
        self.folder = folder
        self._said = folder / "said"
        with self._said.open("wb") as output:
            self.process = programs.start(program, *flags, output=output, environment={"TMPDIR": str(folder)})

    @property
    def said(self) -> str:
        """Everything that it has written so far."""
        return self._said.read_text()

    def children(self) -> dict[str, int]:
        """Returns the process ids of its children by their names."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                command = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended in between
            if parent == self.process.pid:
                name = command[0].split()[0] if b"valkey" in command[0] else command[2]  # a title, or python -m name
                found[os.fsdecode(name).rpartition("/")[2]] = int(path.name)
        return found

    def until_it_says(self, words: str) -> None:
        """Waits until it has written some words."""
        wait_until(lambda: words in self.said or self.process.poll() is not None, words, START_DEADLINE_S)
        assert words in self.said, self.said

    def wait(self) -> int:
        """Waits until it has ended and returns its exit code."""
        return self.process.wait(END_DEADLINE_S)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def has_left(self, children: dict[str, int]) -> list[str]:
        """Returns which of its children still run, and which of its files are left."""
        return [name for name, pid in children.items() if Path(f"/proc/{pid}").exists()] + [
            path.name for path in self.folder.iterdir() if path != self._said
        ]


@contextmanager
def short_demo(folder: Path, phases: str, *flags: str) -> Iterator[Demo]:
    """Runs a demo of some phases, such as "1,3", with slow cameras, while the block runs."""
    demo = Demo("support.processes.short_demo", folder, phases, *flags)
    try:
        yield demo
    finally:
        programs.end(demo.process)
