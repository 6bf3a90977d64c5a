"""Pictures as arrays, and how encoded ones become that."""

import cv2
import numpy as np
import numpy.typing as npt

from worker.picture_header import MAX_PIXELS, PictureError, read_header
from worker.picture_work import bounded

Picture = npt.NDArray[np.uint8]
"""HxWx3, BGR, in [0, 255]."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes a JPEG or PNG.

    Args:
        data: the encoded picture.
        max_pixels: a picture with more pixels is rejected by its header, before it takes memory.

    Returns:
        HxWx3 uint8, BGR.

    Raises:
        PictureError: the bytes are something else, or the picture is incomplete or too large, or would take too long.
    """
    header = read_header(data)
    width, height, _ = header
    if width * height > max_pixels:
        raise PictureError(f"the picture is {width}x{height}, more than {max_pixels} pixels")
    encoded = np.frombuffer(bounded(data, header, max_pixels), np.uint8)
    try:
        picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureError(f"the picture can't be decoded: {error.err or error}") from error
    if picture is None:
        raise PictureError(f"the picture can't be decoded ({len(data)} bytes, {width}x{height})")
    return picture  # type: ignore[return-value]
