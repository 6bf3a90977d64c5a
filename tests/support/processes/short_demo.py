"""``hand-counter demo`` with cameras that draw less: python -m support.processes.short_demo PHASES FLAGS..."""

import sys
from dataclasses import replace

from worker.__main__ import main
from worker.demo import command

CAMERA_FPS = 8.0

if __name__ == "__main__":
    command.PHASES = tuple(command.PHASES[int(number) - 1] for number in sys.argv[1].split(","))
    command.CAMERAS = tuple(replace(camera, fps=CAMERA_FPS) for camera in command.CAMERAS)
    sys.exit(main(["demo", *sys.argv[2:]]))
