"""What is decoded, and what is rejected before it costs anything."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.picture import decode
from worker.picture_header import PictureError, size

IMAGE = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)


def encode(suffix: str, *flags: int) -> bytes:
    """Encodes the image."""
    return cv2.imencode(suffix, IMAGE, flags)[1].tobytes()


@pytest.mark.parametrize(
    "data",
    [encode(".jpg"), encode(".png"), encode(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1), encode(".jpg") + b"\0" * 64],
    ids=["jpeg", "png", "progressive", "padded"],
)
def test_jpeg_and_png_are_decoded(data: bytes) -> None:
    """Their size is known before they are decoded; bytes after the end don't matter."""
    assert size(data) == (64, 48)
    assert decode(data).shape == (48, 64, 3)


def test_a_png_is_decoded_exactly() -> None:
    """With its channels in the order blue, green, red."""
    assert np.array_equal(decode(encode(".png")), IMAGE)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_bomb_is_not_decoded(suffix: str) -> None:
    """A small file that claims to be a huge picture is rejected by its header."""
    data = bytearray(encode(suffix))
    if suffix == ".png":
        data[16:24] = struct.pack(">II", 100_000, 100_000)
    else:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 65_535, 65_535)
    with pytest.raises(PictureError, match="more than 50000000 pixels"):
        decode(bytes(data))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_an_incomplete_jpeg_is_rejected(share: float) -> None:
    """Wherever it ends: a decoder would fill the rest with grey, and hands would be counted in that."""
    data = encode(".jpg")
    with pytest.raises(PictureError):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a" + b"\0" * 99, b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x10J"])
def test_other_bytes_are_rejected(data: bytes) -> None:
    """With an error of this project, not of the library."""
    with pytest.raises(PictureError):
        decode(data)


@given(st.binary(max_size=200), st.integers(0, 600))
def test_any_bytes_are_a_picture_or_an_error(garbage: bytes, at: int) -> None:
    """Damage anywhere in a JPEG raises PictureError and nothing else."""
    data = encode(".jpg")
    try:
        picture = decode(data[:at] + garbage + data[at + len(garbage) :], max_pixels=1_000_000)
    except PictureError:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
