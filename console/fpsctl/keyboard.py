"""Keys that are pressed on a terminal, one at a time, without echo."""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator


class Keyboard:
    """The keys of a terminal that is set to send each at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pressed(self, timeout_s: float) -> str:
        """Waits for a key; returns it, or nothing after the timeout. An arrow is "up" or "down"."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if not ready:
            return ""
        data = os.read(self._descriptor, 64)
        if not data:
            return "q"  # the terminal is gone
        arrows = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"}
        return arrows.get(data, data.decode(errors="replace")[:1] if not data.startswith(b"\x1b[") else "")


@contextlib.contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Sets the terminal of standard input while the block runs."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
