"""The log format that a command line asks for, found before its settings are read, so that errors in them have it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

FLAG: Final = "--log-format"

BLANKS: Final = " \t\r\n\ufeff"
"""What editors and files leave around a value."""


def wishes_json(words: Sequence[str], variables: Mapping[str, str], prefix: str) -> bool:
    """Returns whether the log is to be JSON, by the rules of :mod:`process.settings`: the last flag, else the variable.

    Args:
        words: the arguments.
        variables: the environment.
        prefix: that of the program's variables.
    """
    wish = ""
    name = f"{prefix}LOG_FORMAT"
    for variable, value in variables.items():
        if variable.upper() == name:
            wish = value
    flags = list(words[: words.index("--")] if "--" in words else words)
    for place, word in enumerate(flags):
        if word == FLAG and place + 1 < len(flags) and not flags[place + 1].startswith("-"):
            wish = flags[place + 1]
        elif word.startswith(f"{FLAG}="):
            wish = word.removeprefix(f"{FLAG}=")
    return wish.strip(BLANKS).lower() == "json"
