"""Bounds the work that an encoded picture can cause, which its size in pixels doesn't: both formats can repeat themselves.

A progressive JPEG goes over all its pixels once per scan, and a scan may take a few bytes: 1.6 MB with 20,000 scans took
69 s. The compressed data of a PNG may go on after the last pixel, and be a thousand times as long as its bytes: 4 MB took
34 s; so may its texts. Pure.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from worker.picture_header import PNG_SIGNATURE, Header, PictureError

MAX_SCANS: Final = 100
"""Encoders write about ten, never more than 64. Counted by their markers, of which a thumbnail may contain some more."""

SCANS_AT_FULL_SIZE: Final = 32
"""The most scans of a picture with as many pixels as allowed; more scans are allowed only for fewer pixels."""

_START_OF_SCAN: Final = b"\xff\xda"

_NEEDED_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
"""What a decoder needs; the rest, such as compressed texts and colour profiles, never reaches it."""

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels by the colour type of a PNG."""

_INFLATED_AT_ONCE: Final = 1 << 20

_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced PNG: first column, first row, every how many columns, every how many rows."""


def bounded(data: bytes, header: Header, max_pixels: int) -> bytes:
    """Returns what may be given to a decoder, without what it doesn't need.

    Args:
        data: a JPEG or PNG.
        header: what its header says.
        max_pixels: the most pixels that any picture may have; what is allowed is in proportion to it.

    Raises:
        PictureError: decoding it would cost far more than its pixels explain.
    """
    width, height, repeats = header
    if repeats:
        scans = data.count(_START_OF_SCAN)
        if scans > MAX_SCANS or scans * width * height > SCANS_AT_FULL_SIZE * max_pixels:
            raise PictureError(f"the JPEG has {scans} scans of {width}x{height} pixels, which would take too long")
    if data.startswith(PNG_SIGNATURE):
        return _bounded_png(data)
    return data


def _bounded_png(data: bytes) -> bytes:
    needed = [PNG_SIGNATURE]
    inflated, length, whole = zlib.decompressobj(), 0, 0
    for kind, start, end in _chunks(data):
        if kind not in _NEEDED_CHUNKS:
            continue
        needed.append(data[start:end])
        if kind == b"IHDR":
            whole = _raw_length(data[start + 8 : end - 4])
        elif kind == b"IDAT":
            length += _inflate(inflated, data[start + 8 : end - 4], whole - length)
            if length > whole:
                raise PictureError(f"the PNG has more data than its {whole} bytes of pixels")
    return b"".join(needed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind, begin and end of each chunk up to the last one or to where the file is cut short."""
    at, number, most = len(PNG_SIGNATURE), 0, 1000 + len(data) // 1000
    while at + 12 <= len(data):
        number += 1
        if number > most:
            raise PictureError(f"the PNG has more than {most} chunks in {len(data)} bytes")
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        yield kind, at, min(end, len(data))
        if kind == b"IEND":
            return
        at = end


def _inflate(stream: "zlib._Decompress", compressed: bytes, most: int) -> int:
    """Returns the length of what is compressed, or at least one more than the most that is allowed."""
    length = 0
    while compressed and not stream.eof and length <= most:
        try:
            length += len(stream.decompress(compressed, min(_INFLATED_AT_ONCE, most - length + 1)))
        except zlib.error:  # the decoder finds out what is wrong with it
            break
        compressed = stream.unconsumed_tail
    return length


def _raw_length(header: bytes) -> int:
    """Returns the bytes of all pixels of a PNG, uncompressed, with a byte in front of each row."""
    if len(header) != 13:
        raise PictureError("the PNG has a header of another length")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS.get(colour, 4)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in passes]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0)
