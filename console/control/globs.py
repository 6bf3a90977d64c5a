"""Globs of stream names on the command line. Pure."""

import fnmatch
import re
from collections.abc import Iterable
from typing import Final

_SPECIAL: Final = re.compile(r"[*?\[]")


def is_glob(text: str) -> bool:
    """Returns whether a text is to be matched with the names of streams, rather than a name itself. ``*`` alone is a field."""
    return text != "*" and bool(_SPECIAL.search(text))


def matching(glob: str, names: Iterable[str]) -> list[str]:
    """Returns the names that match, in order: ``*`` is any text, ``?`` one character, ``[ab]`` one of these."""
    pattern = re.compile(fnmatch.translate(glob))
    return sorted(name for name in set(names) if name != "*" and pattern.match(name))
