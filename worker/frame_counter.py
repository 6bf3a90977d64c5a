"""Counts the hands of one frame. Neither the queue nor the limit is known here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.picture import Picture, decode
from worker.picture_header import MAX_PIXELS
from worker.results import FrameResult

if TYPE_CHECKING:
    from worker.hands.detection import HandDetector


def count_hands(
    stream_name: str,
    ts: float,
    picture: bytes | Picture,
    detector: HandDetector,
    max_pixels: int = MAX_PIXELS,
) -> FrameResult:
    """Finds the hands of an admitted frame.

    Args:
        stream_name: the frame's stream.
        ts: capture time, seconds by the frame's own clock.
        picture: a JPEG or PNG, or HxWx3 uint8 in BGR.
        detector: finds the hands; used by one thread at a time.
        max_pixels: an encoded picture with more pixels isn't decoded.

    Returns:
        The hands, in pixels of the picture, and how long it took.

    Raises:
        PictureError: the picture can't be decoded.
    """
    started = time.perf_counter()
    image = decode(picture, max_pixels) if isinstance(picture, bytes) else picture
    decoded = time.perf_counter()
    hands = detector.detect(image)
    detected = time.perf_counter()
    height, width = image.shape[:2]
    return FrameResult(
        stream_name=stream_name,
        ts=ts,
        backend=detector.name,
        engine=detector.engine,
        width=width,
        height=height,
        hands=hands,
        decode_s=decoded - started if isinstance(picture, bytes) else 0.0,
        detect_s=detected - decoded,
        picture=image,
    )
