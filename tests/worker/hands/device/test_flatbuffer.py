"""Tables of FlatBuffers, and damaged ones."""

import struct

import numpy as np
import pytest

from worker.hands.device.flatbuffer import FlatBufferError, Table

# root -> table at 16 with fields 0 (int 7), 1 (left out), 2 (vector of two int32), 3 (the string "ab")
BUFFER = struct.pack(
    "<I HHHHHH iiII Iii I2s",
    16, 12, 16, 4, 0, 8, 12,
    12, 7, 8, 16, 2, 5, -6, 2, b"ab",
)  # fmt: skip


def test_fields_are_found_by_their_number():
    """A field that is left out, or that the file's schema didn't have yet, has its default."""
    table = Table.root(BUFFER)
    assert table.integer(0) == 7
    assert table.integer(1, default=9) == 9
    assert table.integer(40) == 0
    assert table.table(1) is None
    assert list(table.tables(1)) == []
    assert table.numbers(2, np.int32).tolist() == [5, -6]
    assert table.text(3) == "ab"


@pytest.mark.parametrize("length", range(len(BUFFER)))
def test_a_file_that_ends_early_is_an_error(length):
    """No offset reaches behind the file."""
    cut = BUFFER[:length]
    with pytest.raises(FlatBufferError):
        read_all(Table.root(cut))


@pytest.mark.parametrize("at", [0, 16])
def test_an_offset_outside_the_file_is_an_error(at):
    """Neither behind it nor before it."""
    for offset in (2**31 - 1, 30, -(2**31) if at else 2**32 - 1):
        with pytest.raises(FlatBufferError):
            read_all(Table.root(BUFFER[:at] + struct.pack("<i" if at else "<I", offset) + BUFFER[at + 4 :]))


def read_all(table):
    """Reads every field, and the string to its end."""
    table.integer(0)
    table.numbers(2, np.int32)
    if len(table.text(3)) != 2:
        raise FlatBufferError("the string is cut")
