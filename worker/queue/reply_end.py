"""Finds the end of a reply of Redis without keeping what is in it. Pure.

The protocol is RESP 2: a value is a line, of which an array or a string says by a number how many values or bytes follow.
"""

from typing import Final

_ARRAY: Final = ord("*")
_STRING: Final = ord("$")
_LINE_END: Final = b"\r\n"


class ReplyEnd:
    """Where one reply ends that comes in pieces."""

    def __init__(self) -> None:
        self._values = 1
        """How many values haven't ended."""
        self._bytes = 0
        """How many bytes are left of a string, with its end of line."""
        self._line = b""
        """The beginning of a line that is cut off."""

    @property
    def passed(self) -> bool:
        """Whether the reply has ended."""
        return self._values == 0

    def feed(self, data: bytes | bytearray, start: int = 0, length: int | None = None) -> None:
        """Takes the next bytes, none of them behind the reply. The parameters are those of hiredis' reader."""
        stop = len(data) if length is None else start + length
        while start < stop:
            if self._bytes:
                passed = min(self._bytes, stop - start)
                start += passed
                self._bytes -= passed
                self._values -= self._bytes == 0
                continue
            end = data.find(b"\n", start, stop) + 1
            self._line += data[start : end or stop]
            if not end:
                return
            start = end
            self._take(self._line)
            self._line = b""

    def _take(self, line: bytes) -> None:
        number = int(line[1:]) if line[0] in (_ARRAY, _STRING) else -1
        if number < 0:  # a line alone, or that there is no value
            self._values -= 1
        elif line[0] == _ARRAY:
            self._values += number - 1
        else:
            self._bytes = number + len(_LINE_END)
