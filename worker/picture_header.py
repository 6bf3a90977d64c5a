"""What the first bytes of an encoded picture say about it, so that nothing is decoded that shouldn't be. Pure."""

import re
import struct
from typing import NamedTuple

MAX_PIXELS = 50_000_000
"""A few kilobytes may claim to be 65535x65535 pixels, 13 GB of memory. The largest cameras in use have 8K, 33 MP."""

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Files of a folder with these suffixes are taken for pictures."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_END_OF_IMAGE = b"\xff\xd9"
# Start-of-frame markers, ITU-T T.81 table B.1: C0 to CF without DHT, JPG and DAC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN = 0xDA
_FILL = re.compile(rb"\xff*")
_MOST_SEGMENTS = 2000
"""Each may hold 64 KB. The largest colour profiles and depth maps take a few hundred."""
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class PictureError(ValueError):
    """The bytes aren't a picture that can be decoded; the text says why."""


class Header(NamedTuple):
    """What is known before anything is decoded."""

    width: int
    """Pixels, more than 0."""
    height: int
    """Pixels, more than 0."""
    repeats: bool = False
    """Whether its format may go over all pixels several times: a JPEG with several scans."""


def size(data: bytes) -> tuple[int, int]:
    """Returns width and height in pixels from the header of a JPEG or PNG. Raises PictureError."""
    return read_header(data)[:2]


def read_header(data: bytes) -> Header:
    """Returns what the header of a JPEG or PNG says. Raises PictureError."""
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg_header(data)
    if data.startswith(PNG_SIGNATURE) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return Header(*_not_empty(width, height))
    raise PictureError(f"neither JPEG nor PNG: {len(data)} bytes, beginning with {data[:8]!r}")


def _jpeg_header(data: bytes) -> Header:
    """Walks the segments up to the scan. The end of the scan must be there, since libjpeg would fill what is missing."""
    at, found, progressive, components = 2, None, False, b""
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(data):
            raise PictureError(f"the JPEG is cut short: no scan within its {len(data)} bytes")
        if data[at] != 0xFF:
            raise PictureError(f"the JPEG has no marker at byte {at}")
        if data[at + 1] == 0xFF:  # any number of fill bytes may precede a marker
            at = _FILL.match(data, at).end() - 1  # type: ignore[union-attr]  # it matches always
            continue
        marker = data[at + 1]
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAME_MARKERS and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            found = _not_empty(width, height)
            progressive, components = marker in _PROGRESSIVE, data[at + 9 : at + 10]
        if marker == _START_OF_SCAN:
            if found is None:
                raise PictureError("the JPEG has a scan before its frame header")
            if data.rfind(_END_OF_IMAGE, at) < 0:
                raise PictureError(f"the JPEG is cut short: no end within its {len(data)} bytes")
            return Header(*found, repeats=progressive or data[at + 4 : at + 5] != components)
        at += 2 + length
    raise PictureError(f"the JPEG has more than {_MOST_SEGMENTS} segments before its first scan")


def _not_empty(width: int, height: int) -> tuple[int, int]:
    if width == 0 or height == 0:
        raise PictureError(f"the picture is {width}x{height}")
    return width, height
