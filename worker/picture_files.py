"""Pictures in files, read by one rule in ``detect`` and ``publish``: the content counts, whatever the file is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from worker.picture import Picture, decode
from worker.picture_header import MAX_PIXELS, PICTURE_SUFFIXES, PictureError

_PASSED_ON = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""The first bytes of the formats that a worker decodes."""


def pictures_in(folder: Path) -> list[Path]:
    """Returns the files of a folder that have a picture's suffix, as people count: 2 before 10. Raises OSError."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(paths, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def is_jpeg_or_png(data: bytes) -> bool:
    """Returns whether an encoded picture begins as a JPEG or PNG does."""
    return data.startswith(_PASSED_ON)


def decode_any(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes a picture of any format that OpenCV knows, upright (by its EXIF orientation).

    Returns:
        HxWx3 uint8, BGR; grey and transparent pictures are converted.

    Raises:
        PictureError: the bytes aren't a picture, or one that is cut short, damaged or too large.
    """
    if is_jpeg_or_png(data):
        return decode(data, max_pixels)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except (cv2.error, MemoryError) as error:
        raise PictureError(f"the picture can't be decoded: {_reason(error)}") from error
    if picture is None:
        raise PictureError("not a picture, or in an unsupported format")
    return picture.astype(np.uint8, copy=False)


def encode(picture: Picture, suffix: str, parameters: Sequence[int] = ()) -> bytes:
    """Encodes a picture in the format that a suffix names.

    Raises:
        PictureError: the format doesn't exist, or can't hold such a picture (a JPEG has at most 65500 pixels each way).
    """
    try:
        done, content = cv2.imencode(suffix, picture, list(parameters))
    except (cv2.error, MemoryError) as error:
        raise PictureError(f"the picture can't be encoded as {suffix}: {_reason(error)}") from error
    if not done:
        height, width = picture.shape[:2]
        raise PictureError(f"a picture of {width}x{height} can't be encoded as {suffix}")
    return content.tobytes()


def _reason(error: Exception) -> str:
    text = getattr(error, "err", None) or str(error) or type(error).__name__
    return " ".join(text.split())  # OpenCV's messages have line breaks
