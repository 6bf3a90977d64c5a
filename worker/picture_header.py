"""What the first bytes of an encoded picture say about it, so that nothing is decoded that shouldn't be. Pure."""

import struct

MAX_PIXELS = 50_000_000
"""A few kilobytes may claim to be 65535x65535 pixels, 13 GB of memory. The largest cameras in use have 8K, 33 MP."""

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Files of a folder with these suffixes are taken for pictures."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_END_OF_IMAGE = b"\xff\xd9"
# Start-of-frame markers, ITU-T T.81 table B.1: C0 to CF without DHT, JPG and DAC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class PictureError(ValueError):
    """The bytes aren't a picture that can be decoded; the text says why."""


def size(data: bytes) -> tuple[int, int]:
    """Returns width and height in pixels from the header of a JPEG or PNG. Raises PictureError."""
    if data.startswith(_JPEG):
        return _jpeg_size(data)
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return _not_empty(width, height)
    raise PictureError(f"neither JPEG nor PNG: {len(data)} bytes, beginning with {data[:8]!r}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walks the segments up to the scan. The end of the scan must be there, since libjpeg would fill what is missing."""
    at, found = 2, None
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise PictureError(f"the JPEG has no marker at byte {at}")
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAME_MARKERS and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            found = _not_empty(width, height)
        if marker == _START_OF_SCAN:
            if found is None:
                raise PictureError("the JPEG has a scan before its frame header")
            if data.rfind(_END_OF_IMAGE, at) < 0:
                raise PictureError(f"the JPEG is cut short: no end within its {len(data)} bytes")
            return found
        at += 2 + length
    raise PictureError(f"the JPEG is cut short: no scan within its {len(data)} bytes")


def _not_empty(width: int, height: int) -> tuple[int, int]:
    if width == 0 or height == 0:
        raise PictureError(f"the picture is {width}x{height}")
    return width, height
