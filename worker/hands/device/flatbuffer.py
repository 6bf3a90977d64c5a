"""Reads FlatBuffers: tables whose fields are found by number. Pure.

Only what a .tflite file needs. The format: https://flatbuffers.dev/internals. Every offset is checked, so that a damaged
file is an error and not other bytes of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


class FlatBufferError(ValueError):
    """The bytes aren't a FlatBuffer, or are damaged."""


class Table:
    """A table: fields by their numbers in the schema; a field that is left out has its default."""

    def __init__(self, data: bytes, position: int) -> None:
        """Takes the whole buffer and where the table begins."""
        self._data = data
        self._position = position
        fields = position - _read("<i", data, position)
        self._fields = fields
        self._fields_end = fields + _read("<H", data, fields)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """Returns the table that a buffer holds."""
        return cls(data, _read("<I", data, 0))

    def integer(self, field: int, kind: str = "i", default: int = 0) -> int:
        """Returns a number; `kind` is its letter in the module struct: b, B, i or I."""
        at = self._at(field)
        return default if at is None else _read(f"<{kind}", self._data, at)

    def table(self, field: int) -> Table | None:
        """Returns a table, or the table of a union."""
        at = self._at(field)
        return None if at is None else Table(self._data, self._target(at))

    def tables(self, field: int) -> Iterator[Table]:
        """Yields the tables of a vector."""
        at, length = self._vector(field)
        for place in range(at, at + 4 * length, 4):
            yield Table(self._data, self._target(place))

    def text(self, field: int) -> str:
        """Returns a string."""
        at, length = self._vector(field)
        return self._data[at : at + length].decode(errors="replace")

    def numbers(self, field: int, dtype: type[Number]) -> NDArray[Number]:
        """Returns the numbers of a vector, without a copy."""
        at, length = self._vector(field)
        kind = np.dtype(dtype).newbyteorder("<")
        if at + length * kind.itemsize > len(self._data):
            raise FlatBufferError("a vector ends behind the file")
        return np.frombuffer(self._data, kind, length, at)

    def _at(self, field: int) -> int | None:
        """Returns where a field is; None if it is left out."""
        entry = self._fields + 4 + 2 * field
        if entry + 2 > self._fields_end:
            return None
        offset = _read("<H", self._data, entry)
        return self._position + offset if offset else None

    def _target(self, at: int) -> int:
        return at + _read("<I", self._data, at)

    def _vector(self, field: int) -> tuple[int, int]:
        """Returns where a vector's elements begin and how many there are."""
        at = self._at(field)
        if at is None:
            return 0, 0
        start = self._target(at)
        return start + 4, _read("<I", self._data, start)


def _read(kind: str, data: bytes, at: int) -> int:
    if at < 0:
        raise FlatBufferError("an offset is before the file")
    try:
        (value,) = struct.unpack_from(kind, data, at)
    except struct.error as error:
        raise FlatBufferError("an offset is behind the file") from error
    return int(value)
