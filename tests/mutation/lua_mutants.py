"""Mutants of a Lua script: copies with one small error each, which a test ought to notice. Pure.

Comparisons, arithmetic, `and` and `or`, constants, names of the same role, and statements that are left out.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
      | (?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
      | (?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)*)
      | (?P<operator>\.\.|[<>=~]=|[-+*/<>])""",
    re.VERBOSE,
)

OPERATORS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("~=",),
    "~=": ("==",),
    "+": ("-",),
    "-": ("+",),
    "*": ("/",),
    "/": ("*",),
}
NAMES = {
    "and": ("or",),
    "or": ("and",),
    "not": ("",),
    "true": ("false",),
    "false": ("true",),
    "math.max": ("math.min",),
    "math.min": ("math.max",),
}
REASONS = ("ADMITTED", "TOO_SOON", "PAUSED", "DUPLICATE", "LATE")
NAMES.update({name: (following,) for name, following in zip(REASONS, (*REASONS[1:], REASONS[0]), strict=True)})

STATEMENT = re.compile(
    r"""^[ ]*+(?!(?:local|for|if|elseif|while|return)\b)
        (?:[\w.\[\]\#,+ ]+[ ]=[ ][^{]+|(?:table\.remove|redis\.call)\(.*\))$""",
    re.VERBOSE,
)
"""A line that can be left out: an assignment to what exists, or a call for its effect."""


class Mutant(NamedTuple):
    """A script with one error."""

    line: int
    """Counted from 1."""
    original: str
    """The line as it is, without its indentation and its comment."""
    mutated: str
    """The line with the error; empty if it is left out."""
    script: str


def mutants(script: str) -> Iterator[Mutant]:
    """Yields every mutant of a script, in the order of the lines."""
    lines = script.splitlines()
    for number, line in enumerate(lines):
        for mutated in dict.fromkeys(_mutations(line)):
            changed = "\n".join([*lines[:number], mutated, *lines[number + 1 :]]) + "\n"
            yield Mutant(number + 1, _bare(line), _bare(mutated), changed)


def _mutations(line: str) -> Iterator[str]:
    """Yields the line with one token replaced, and the line left out."""
    for token in TOKEN.finditer(line):
        text = token.group()
        match token.lastgroup:
            case "operator":
                replacements = OPERATORS.get(text, ())
            case "name":
                replacements = NAMES.get(text, ())
            case "number":
                replacements = (str(int(text) + 1),) if text.isdigit() else (f"(2 * {text})",)
            case _:
                replacements = ()
        for replacement in replacements:
            yield line[: token.start()] + replacement + line[token.end() :]
    if STATEMENT.match(_without_comment(line)):
        yield ""


def _without_comment(line: str) -> str:
    for token in TOKEN.finditer(line):
        if token.lastgroup == "comment":
            return line[: token.start()].rstrip()
    return line


def _bare(line: str) -> str:
    return _without_comment(line).strip()
