"""Texts as cells of CSV that no spreadsheet takes for a formula, and back. Pure.

A stream's name comes from whoever publishes, and a spreadsheet computes a cell that begins with ``=``, ``+``, ``-`` or ``@``:
it may fetch an address, or run a program. An apostrophe before it makes it a text, see
https://owasp.org/www-community/attacks/CSV_Injection
"""

import re
from typing import Final

_FORMULA: Final = re.compile(r"'*\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""The beginning of a formula, with those forms of the signs that East Asian versions take for them. Also behind apostrophes,
so that a text which has one already gets another, and both directions are exact."""


def cell_of(text: str) -> str:
    """Returns a text as a cell."""
    return f"'{text}" if _FORMULA.match(text) else text


def text_of(cell: str) -> str:
    """Returns the text of a cell that :func:`cell_of` made, or that people wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
