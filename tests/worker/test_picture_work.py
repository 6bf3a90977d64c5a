"""Pictures that would take far longer than their pixels explain are rejected, whatever makes them slow."""

import contextlib
import struct
import zlib

import cv2
import numpy as np
import pytest

from worker import picture_work
from worker.picture import decode
from worker.picture_header import Header, PictureError
from worker.picture_work import MAX_SCANS, SCANS_AT_FULL_SIZE, bounded

IMAGE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8), (0, 0), 3)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def jpeg(scans: int = 1, image: np.ndarray = IMAGE) -> bytes:
    """Returns a progressive JPEG with the last of its scans repeated until there are so many."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * (scans - data.count(b"\xff\xda")) + data[end:]


def sequential(times: int) -> bytes:
    """Returns a JPEG that isn't progressive, and whose three scans, one for each component, are repeated."""
    interleaved = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    scan = interleaved.index(b"\xff\xda")
    ends = [b"\xff\xda\x00\x08\x01" + bytes([number, 0]) + b"\x00\x3f\x00" for number in (1, 2, 3)]
    return interleaved[:scan] + b"".join(ends) * times + b"\xff\xd9"


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int = 64, height: int = 48, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """Returns the first chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png(
    *chunks: bytes,
    pixels: bytes = bytes(48 * (1 + 64 * 3)),
    compressed: bytes | None = None,
    head: bytes = header(),
) -> bytes:
    """Returns a PNG with some chunks before its pixels, which may be given as they are compressed."""
    data = zlib.compress(pixels) if compressed is None else compressed
    return SIGNATURE + head + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def compressed_zeros(mebibytes: int) -> bytes:
    """Returns what ``zlib.compress`` could return for so many zeros, without compressing each of them."""
    packer = zlib.compressobj()
    first, again = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    checksum = struct.pack(">I", (mebibytes << 20) % 65521 << 16 | 1)  # Adler-32
    return first + again * (mebibytes - 1) + raw.flush() + checksum


def parts(compressed: bytes, number: int) -> bytes:
    """Returns compressed data in this many chunks."""
    step = -(-len(compressed) // number)
    return b"".join(chunk(b"IDAT", compressed[at : at + step]) for at in range(0, len(compressed), step))


SLOW = {
    "scans": (jpeg(20_000), "20000 scans"),
    "scans of one component each": (sequential(200), "600 scans"),
    "one scan too many": (jpeg(MAX_SCANS + 1), "101 scans"),
    "fill bytes": (b"\xff" * 5_000_000, "neither"),
    "fill bytes after a start": (b"\xff\xd8" + b"\xff" * 5_000_000, "cut short"),
    "fill bytes between segments": (b"\xff\xd8" + (b"\xff" * 1000 + b"\xfe\x00\x02") * 5_000, "2000 segments"),
    "segments": (b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_250_000, "2000 segments"),
    "restart markers": (b"\xff\xd8" + b"\xff\xd0" * 2_500_000, "2000 segments"),
    "data after the last row": (png(compressed=compressed_zeros(500)), "more data than"),
    "the same in many chunks": (SIGNATURE + header() + parts(compressed_zeros(100), 99), "more data than"),
    "chunks": (png(chunk(b"tEXt", b"a\0b") * 400_000), "chunks in"),
    "zeros": (SIGNATURE + header() + bytes(5_000_000), "chunks in"),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_picture_that_would_take_too_long(name: str) -> None:
    """It is rejected for that, before it is decoded; decoding some of these takes more than a minute."""
    data, reason = SLOW[name]
    with pytest.raises(PictureError, match=reason):
        decode(data)


def test_compressed_zeros() -> None:
    """They inflate to zeros, and their checksum is right."""
    assert zlib.decompress(compressed_zeros(3)) == bytes(3 << 20)


def test_compressed_texts_reach_no_decoder() -> None:
    """However much they inflate to; what the picture shows is the same."""
    text = chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(7_000_000)))
    assert bounded(png(*[text] * 1000), Header(64, 48), 10**6) == png()
    assert np.array_equal(decode(png(text)), decode(png()))


@pytest.mark.parametrize("scans", [10, 64, MAX_SCANS])
def test_as_many_scans_as_encoders_write(scans: int) -> None:
    """They are decoded."""
    assert decode(jpeg(scans)).shape == IMAGE.shape


def test_more_scans_for_fewer_pixels() -> None:
    """A picture as large as allowed may have fewer scans."""
    pixels = 64 * 48
    assert decode(jpeg(SCANS_AT_FULL_SIZE), max_pixels=pixels).shape == IMAGE.shape
    with pytest.raises(PictureError, match=f"{SCANS_AT_FULL_SIZE + 1} scans of 64x48"):
        decode(jpeg(SCANS_AT_FULL_SIZE + 1), max_pixels=pixels)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(
    ("depth", "colour"), [(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 4), (8, 6), (16, 6)]
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (7, 9), (64, 48)])
def test_every_kind_of_png(width: int, height: int, depth: int, colour: int, interlaced: int) -> None:
    """The length of its pixels is computed exactly: a byte more is too much, and none less is decoded."""
    head = header(width, height, depth, colour, interlaced)
    palette = chunk(b"PLTE", bytes(3 * 16)) if colour == 3 else b""
    length = picture_work._raw_length(head[8:-4])
    assert decode(png(palette, head=head, pixels=bytes(length))).shape == (height, width, 3)
    with pytest.raises(PictureError, match="more data than"):
        decode(png(palette, head=head, pixels=bytes(length + 1)))


def test_a_png_is_passed_on_as_it_is() -> None:
    """All that a decoder needs, in order; bytes after the end aren't."""
    data = png(chunk(b"tRNS", bytes(6)), chunk(b"eXIf", b"II*\0"))
    assert bounded(data + b"trailing", Header(64, 48), 10**6) == data


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE + chunk(b"IHDR", b"short" * 4),
        png(pixels=bytes(10)),
        SIGNATURE + header() + chunk(b"IDAT", b"not compressed") + chunk(b"IEND", b""),
        png()[:-20],
    ],
    ids=["header", "cut rows", "no zlib", "cut short"],
)
def test_a_damaged_png(data: bytes) -> None:
    """It is a picture or an error of ours, as the decoder decides."""
    with contextlib.suppress(PictureError):
        assert decode(data).shape == (48, 64, 3)


def test_other_bytes_are_passed_on() -> None:
    """Neither JPEG nor PNG: not for this to judge."""
    assert bounded(b"GIF89a", Header(1, 1), 1) == b"GIF89a"
