"""Keys that are pressed on a terminal, one at a time, without echo."""

import contextlib
import os
import re
import select
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator
from typing import Final

_ESCAPED: Final = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])")
_ARROWS: Final = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down"}


class Keyboard:
    """The keys of a terminal that is set to send each at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._typed: deque[str] = deque()
        """Keys that came together with those before them."""

    def pressed(self, timeout_s: float) -> str:
        """Waits for a key; returns it, or nothing after the timeout. An arrow is "up" or "down"; a lost terminal is "q"."""
        if not self._typed:
            ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
            if not ready:
                return ""
            data = os.read(self._descriptor, 1024)
            self._typed.extend(keys_of(data.decode(errors="replace")) if data else "q")
        return self._typed.popleft() if self._typed else ""


def keys_of(text: str) -> list[str]:
    """Returns the keys that a terminal sent; those that only move the cursor or the like are left out."""
    keys: list[str] = []
    position = 0
    while position < len(text):
        if escaped := _ESCAPED.match(text, position):
            keys += [_ARROWS[escaped[0]]] if escaped[0] in _ARROWS else []
            position = escaped.end()
        else:
            keys.append(text[position])
            position += 1
    return keys


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
