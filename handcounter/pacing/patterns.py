"""Patterns of stream names: what they match, and which of several counts. Pure.

In a pattern ``*`` stands for any number of characters, also none, and ``?`` for exactly one; all others stand for
themselves, capitals and small letters apart. There are no brackets and no escapes: a name that contains ``*`` or ``?`` is
matched by ``?``.

If several patterns match a name, the longest counts: the one with the most characters other than ``*`` and ``?``; of those
with as many, the first in text order (by code points). So ``floor1-*`` comes before ``floor*``, and ``cam-a*`` before
``cam-*b``.

A name is compared with the patterns whose beginning, up to their first ``*`` or ``?``, it shares. So a thousand patterns
such as ``floor1-*`` cost a name a few look-ups; only patterns that begin with ``*`` or ``?`` are tried one by one.
"""

import functools
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from handcounter.pacing.schedule import stream_name_error

_WILD: Final = re.compile(r"[*?]")


class Match(NamedTuple):
    """The pattern that counts for a name."""

    pattern: str
    fps: float
    """Its limit, frames per second."""


def is_pattern(text: str) -> bool:
    """Returns whether a text contains ``*`` or ``?``."""
    return _WILD.search(text) is not None


def pattern_error(pattern: str) -> str | None:
    """Returns the error for a pattern that no stream's name can match, because no name may look like that; else None."""
    error = stream_name_error(pattern)
    return None if error is None else error.replace("stream_name", "a pattern")


def literals(pattern: str) -> int:
    """Returns the length of a pattern: how many of its characters stand for themselves."""
    return len(pattern) - len(_WILD.findall(pattern))


def matches(pattern: str, stream_name: str) -> bool:
    """Returns whether a pattern matches a name, all of it."""
    return _compiled(pattern).fullmatch(stream_name) is not None


class Patterns:
    """Patterns and their limits. Unchangeable.

    Args:
        fps: The limit of each pattern, frames per second.
    """

    def __init__(self, fps: Mapping[str, float]) -> None:
        self.fps: Final = dict(fps)
        """The limit of each pattern, frames per second."""
        self._by_head: dict[str, list[tuple[int, str]]] = {}
        for pattern in fps:
            head = _WILD.split(pattern, maxsplit=1)[0]
            self._by_head.setdefault(head, []).append((-literals(pattern), pattern))
        for alike in self._by_head.values():
            alike.sort()
        self._head_lengths = sorted({len(head) for head in self._by_head})

    def __len__(self) -> int:
        """Returns how many patterns there are."""
        return len(self.fps)

    def match(self, stream_name: str) -> Match | None:
        """Returns the longest pattern that matches a name; None if none does."""
        best: tuple[int, str] | None = None
        for length in self._head_lengths:
            for rank in self._by_head.get(stream_name[:length], ()):
                if best is not None and best < rank:
                    break  # those after it aren't longer either
                if matches(rank[1], stream_name):
                    best = rank
                    break
        return None if best is None else Match(best[1], self.fps[best[1]])


# Patterns stay the same while others are added, and compiling a thousand takes a tenth of a second.
@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Atomic groups: what lies between two stars is sought once, at its first place, which is enough. Without them a name
    # that doesn't match takes time that grows with the power of the number of stars.
    first, *parts = (
        "".join("." if letter == "?" else re.escape(letter) for letter in part) for part in pattern.split("*")
    )
    if not parts:
        return re.compile(first, re.DOTALL)
    *middle, last = parts
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last, re.DOTALL)
