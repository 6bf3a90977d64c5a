"""Small annotated pictures of what was counted, for people."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from worker.hands.detection import Hands
from worker.hands.draw import annotate

if TYPE_CHECKING:
    from worker.picture import Picture
    from worker.results import FrameResult

MOST_PIXELS = 640
"""Width and height of a preview, at most."""

INTERVAL_S = 1.0
"""Between two previews of a stream, at least."""

QUALITY = 75

SHARE = 0.02
"""Of the time that frames take, at most. Many streams at a low fps would else cost a preview for each frame."""

_MOST_STREAMS = 100_000


class Previews:
    """Draws the previews of all streams, at most one a second for each. For any thread."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """Takes a clock, in seconds."""
        self._now = now
        self._lock = threading.Lock()
        self._drawn_at: dict[str, float] = {}
        self._credit = 0.0
        """Seconds that previews may still take."""

    def draw(self, result: FrameResult, beside: int = 1) -> bytes:
        """Returns a JPEG of a counted frame with its hands; empty if it isn't time for one, or it can't be encoded.

        Args:
            result: of the frame.
            beside: how many frames' hands were found in the same time.
        """
        began = self._now()
        with self._lock:
            self._credit = min(1.0, self._credit + SHARE * (result.decode_s + result.detect_s / beside))
            due = began - self._drawn_at.get(result.stream_name, -INTERVAL_S) >= INTERVAL_S
            if result.picture is None or not due or self._credit < 0.0:
                return b""
            if len(self._drawn_at) >= _MOST_STREAMS:
                self._drawn_at.clear()
            self._drawn_at[result.stream_name] = began
        preview = encode(result.picture, result.hands)
        with self._lock:
            self._credit -= self._now() - began
        return preview


def encode(picture: Picture, hands: Hands) -> bytes:
    """Returns a JPEG of at most 640x640 with the hands drawn; empty if the codec fails.

    Args:
        picture: HxWx3 uint8, BGR.
        hands: in pixels of the picture.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, MOST_PIXELS / max(height, width))
    try:
        if scale < 1.0:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        done, encoded = cv2.imencode(
            ".jpg", annotate(picture, hands.scaled(scale)), (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
        )
    except cv2.error:
        return b""
    return encoded.tobytes() if done else b""
