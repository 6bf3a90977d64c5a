"""``hand-counter demo`` with cameras that draw less: python -m support.processes.short_demo PHASES FLAGS...

With the variable FORK_SERVERS, their addresses as JSON, its programs are forks. The file FORKS gets the process id of each,
and at the end that it has ended, and how.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from support.processes.demo_children import forking
from support.processes.programs import Process, forks

from worker.__main__ import main
from worker.demo import command, processes

CAMERA_FPS = 8.0


def forking_demo(servers: dict[str, bytes], noted: Path, arguments: list[str]) -> int:
    """Runs a demo whose programs are forks; returns its exit code."""
    started: list[Process] = []

    def note(words: str) -> None:
        with noted.open("a") as file:
            file.write(f"{words}\n")

    def note_start(process: Process) -> None:
        started.append(process)
        note(str(process.pid))

    with forks(servers):
        processes.subprocess = forking(note_start)  # type: ignore[assignment]
        code = main(arguments)
        # Those that the demo has left would end with this block.
        for process in started:
            note(f"{process.pid} exit code {process.poll()}")
    return code


if __name__ == "__main__":
    command.PHASES = tuple(command.PHASES[int(number) - 1] for number in sys.argv[1].split(","))
    command.CAMERAS = tuple(replace(camera, fps=CAMERA_FPS) for camera in command.CAMERAS)
    flags = ["demo", *sys.argv[2:]]
    if given := os.environ.get("FORK_SERVERS"):
        addresses = {name: bytes.fromhex(address) for name, address in json.loads(given).items()}
        sys.exit(forking_demo(addresses, Path(os.environ["FORKS"]), flags))
    sys.exit(main(flags))
