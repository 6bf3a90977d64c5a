"""Names of streams: which look alike, which are nearest to a mistyped one, and how hostile ones are shown. Pure."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

_SHOWN_CHARACTERS: Final = 256
_MOST_COMPARED: Final = 20_000
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of characters that move the cursor, turn the direction of writing, or can't be seen."""
_SIMILAR: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "5": "s"})


def shown(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    r"""Returns a text as a terminal may show it: control characters and the like as \\x1b, at most so many characters.

    A name comes from whoever publishes frames or writes to Redis. It must neither move the cursor nor turn the direction
    of writing nor look like another name by characters that nobody sees.
    """
    if text.isascii() and text.isprintable() and len(text) <= most:
        return text
    pieces = [_escape(character) if unicodedata.category(character) in _UNSEEN else character for character in text]
    escaped = "".join(pieces)
    return escaped if len(escaped) <= most else escaped[: most - 1] + "…"


def quoted(text: str) -> str:
    """Returns a text for the middle of a sentence: shown, between quotes if blanks or its end could be missed."""
    clean = shown(text)
    return clean if re.fullmatch(r"[\w.:/@+*?\[\]-]+", clean) else f"'{clean}'"


def word(text: str) -> str:
    """Returns a text as one word of a command line that people may copy."""
    clean = shown(text)
    return clean if re.fullmatch(r"[\w.:/@+-]+", clean) else "'" + clean.replace("'", "'\\''") + "'"


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that isn't UTF-8, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def look(name: str) -> str:
    """Returns what a name looks like: without blanks and capitals, and with one form of each accented letter."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def rough_look(name: str) -> str:
    """Returns what a name looks like to somebody in a hurry: also without separators, leading zeros, and 0 for o, 1 for l."""
    bare = re.sub(r"[-_.:/ ]", "", look(name))
    return re.sub(r"(?<!\d)0+(?=\d)", "", bare).translate(_SIMILAR)


def twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the groups of two and more names that look alike, each in order."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(look(name), set()).add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def nearest(name: str, known: Sequence[str], most: int = 3) -> list[str]:
    """Returns the known names that are most similar to a mistyped one, the most similar first; empty if none is."""
    rough = rough_look(name)
    same = [each for each in known if each != name and rough_look(each) == rough][:most]
    candidates = [each for each in known[:_MOST_COMPARED] if each not in same and each != name]
    return (same + difflib.get_close_matches(name, candidates, most, 0.7))[:most]
