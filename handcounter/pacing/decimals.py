"""Numbers as people write them: in flags, variables and the hash of limits. Pure."""

import math
import re
from typing import Final

_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ZERO: Final = re.compile(r"[+-]?[0.]+(?:[eE].*)?")
_INFINITY: Final = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)


def parse_decimal(text: str) -> float | None:
    """Returns the number that a text stands for; None if it isn't a decimal number in ASCII or inf, or doesn't fit a double.

    float() alone would also accept 1_000, nan, digits of other scripts, 1e400 as infinity, so that a typing error would lift a
    limit, and 1e-400 as 0, which pauses.
    """
    if _INFINITY.fullmatch(text):
        return float(text)
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text)
    if math.isinf(number) or (number == 0.0 and not _ZERO.fullmatch(text)):
        return None
    return number
