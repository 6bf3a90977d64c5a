"""What the header of a picture says, byte by byte."""

import pytest

from worker.picture_header import PictureError, read_header, size

START = b"\xff\xd8"
SOF = b"\xff\xc0\x00\x0b\x08\x00\x30\x00\x40\x01\x01\x11\x00"
"""A frame header: 64 pixels wide, 48 high."""
SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"data"
END = b"\xff\xd9"
APP0 = b"\xff\xe0\x00\x04ab"
RESTART = b"\xff\xd0"
FILL = b"\xff"
EMPTY = b"\xff\xc0\x00\x0b\x08\x00\x00\x00\x40\x01\x01\x11\x00"
TABLE = b"\xff\xc4\x00\x04ab"
"""A Huffman table, whose marker lies among those of frame headers."""
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (START + SOF + SCAN + END, (64, 48)),
        (START + APP0 + SOF + SCAN + END, (64, 48)),
        (START + APP0 + RESTART + SOF + SCAN + END, (64, 48)),
        (START + APP0 + FILL + SOF + SCAN + END, (64, 48)),
        (START + TABLE + SOF + TABLE + SCAN + END, (64, 48)),
        (START + SOF.replace(b"\xc0", b"\xc2") + SCAN + END, (64, 48)),
        (START + SOF + SCAN + END + b"trailing", (64, 48)),
        (PNG + b"\x00\x00\x00\x40\x00\x00\x00\x30", (64, 48)),
    ],
)
def test_size(data: bytes, expected: tuple[int, int]) -> None:
    """Width and height, whatever comes before the frame header and after the scan."""
    assert size(data) == expected


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "neither JPEG nor PNG: 0 bytes"),
        (b"GIF89a", "neither JPEG nor PNG"),
        (PNG, "neither JPEG nor PNG"),
        (PNG + b"\x00\x00\x00\x00\x00\x00\x00\x30", "the picture is 0x48"),
        (START + EMPTY + SCAN + END, "the picture is 64x0"),
        (START + APP0 + b"no marker here", "no marker at byte 8"),
        (START + APP0 + SCAN + END, "a scan before its frame header"),
        (START + SOF + SCAN, "no end within its"),
        (START + SOF, "no scan within its"),
        (START + SOF[:8], "no scan within its"),
        (START + APP0 + SOF[:9], "no scan within its"),
    ],
)
def test_what_cannot_be_decoded(data: bytes, error: str) -> None:
    """The error says what is missing."""
    with pytest.raises(PictureError, match=error):
        size(data)


@pytest.mark.parametrize(
    ("data", "repeats"),
    [
        (START + SOF + SCAN + END, False),
        (START + SOF.replace(b"\xc0", b"\xc2") + SCAN + END, True),
        (START + SOF[:9] + b"\x03" + SOF[10:] + SCAN + END, True),
        (PNG + b"\x00\x00\x00\x40\x00\x00\x00\x30", False),
    ],
    ids=["one scan of all components", "progressive", "one scan of one of three components", "png"],
)
def test_what_may_have_several_scans(data: bytes, repeats: bool) -> None:
    """A decoder goes over all pixels in each."""
    assert read_header(data).repeats is repeats
