"""A file with tokens, one in a line, read again while the console runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

MIN_TOKEN: Final = 16
"""Characters of a token at least: fewer could be guessed."""
EVERY_S: Final = 1.0
"""How often the file is read at most."""
KEPT_S: Final = 10.0
"""How long its last tokens hold while it is missing or has none, as for a moment while it is replaced."""


def tokens_in(text: str) -> tuple[str, ...]:
    """Returns the tokens of a file: its lines, without blanks around them and without empty ones."""
    return tuple(filter(None, map(str.strip, text.splitlines())))


class TokenFile:
    """The tokens that a file has now."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Takes a monotonic clock in seconds."""
        self._path = path
        self._clock = clock
        self._tokens: tuple[str, ...] = ()
        self._looked_at = self._read_at = float("-inf")

    def __call__(self) -> tuple[str, ...]:
        """Returns the tokens; none once the file has been without a valid one for a while."""
        now = self._clock()
        if now - self._looked_at >= EVERY_S:
            self._looked_at = now
            if found := self._read():
                self._tokens, self._read_at = found, now
            elif now - self._read_at >= KEPT_S:
                self._tokens = ()
        return self._tokens

    def _read(self) -> tuple[str, ...]:
        try:
            # A shorter one is half of a token that somebody is writing.
            return tuple(token for token in tokens_in(self._path.read_text()) if len(token) >= MIN_TOKEN)
        except (OSError, UnicodeDecodeError):
            return ()
