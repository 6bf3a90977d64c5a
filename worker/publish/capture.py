"""OpenCV's captures with timeouts, without OpenCV's own messages, and with motion JPEG as the bytes received."""

from __future__ import annotations

import os
from typing import Any, Protocol

import cv2
import numpy as np

from worker.picture import Picture, decode
from worker.picture_header import PictureError
from worker.publish.failure import why_not_opened
from worker.publish.source import Encode, SourceError

TIMEOUT_S = 5.0
"""Seconds of silence after which opening or reading fails. With OpenCV's own 30 s, a loss is noticed too late."""

_MOTION_JPEG = cv2.VideoWriter.fourcc(*"MJPG")
_ENCODED = -1
"""The value of CAP_PROP_FORMAT with which FFmpeg returns the bytes received instead of decoding them."""


class _VideoCapture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802 (OpenCV's name)
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, prop: int, /) -> float: ...
    def set(self, prop: int, value: float, /) -> bool: ...
    def release(self) -> None: ...


class Capture:
    """An open film or camera. For one thread, which it may block for up to TIMEOUT_S."""

    def __init__(self, video: _VideoCapture, encoded: bool) -> None:
        """Takes an open video. If its frames are encoded, the first one has been grabbed already, to find that out."""
        self._video = video
        self._encoded = encoded
        self._grabbed = encoded
        self.decoded = False
        """Whether any frame was retrieved."""

    @property
    def codec(self) -> str:
        """The codec's four characters, empty if it is unknown."""
        code = int(self._video.get(cv2.CAP_PROP_FOURCC)).to_bytes(8, "little", signed=True)[:4]
        return code.decode() if code.isalnum() else ""

    @property
    def undecodable(self) -> str:
        """Says that no frame can be decoded."""
        codec = f" (codec {self.codec})" if self.codec else ""
        return f"no frame can be decoded{codec}: the codec isn't supported, or the data is damaged or empty"

    @property
    def fps(self) -> float | None:
        """The nominal frames per second, None if the source has none."""
        fps = self._video.get(cv2.CAP_PROP_FPS)
        return fps if 0 < fps <= 1000 else None

    @property
    def position(self) -> float:
        """Position of the grabbed frame in the film, seconds from its beginning."""
        return self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def grab(self) -> bool:
        """Advances to the next frame; returns False at the end, or if no frame arrived in time."""
        if self._grabbed:
            self._grabbed = False
            return True
        return self._video.grab()

    def retrieve(self) -> Picture | bytes | None:
        """Returns the grabbed frame: a picture, or a JPEG as it was received; None if it can't be decoded."""
        there, image = self._video.retrieve()
        if not there or image is None:
            return None
        self.decoded = True
        frame: Picture = image
        return frame.tobytes() if self._encoded else frame

    @staticmethod
    def encoded(frame: Picture | bytes, encode: Encode) -> bytes:
        """Returns a frame that was retrieved as JPEG. Raises PictureError."""
        return frame if isinstance(frame, bytes) else encode(frame)

    def close(self) -> None:
        """Closes the film or camera."""
        self._video.release()


def open_url(url: str, name: str) -> Capture:
    """Opens a file or a URL; errors have the name instead, because the URL may hold a password. Raises SourceError."""
    _silence_libraries()
    video = _open_ffmpeg(url, name)
    # A decoder also turns the picture as the container says, and weaves the two JPEGs of an interlaced frame.
    upright = not video.get(cv2.CAP_PROP_ORIENTATION_META)
    shown = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if upright and video.get(cv2.CAP_PROP_FOURCC) == _MOTION_JPEG and video.set(cv2.CAP_PROP_FORMAT, _ENCODED):
        if _is_jpeg(video, shown):
            return Capture(video, encoded=True)
        video.release()
        video = _open_ffmpeg(url, name)
    return Capture(video, encoded=False)


def open_webcam(device: str, name: str) -> Capture:
    """Opens a camera of this machine, by its index or path, with motion JPEG if it supports that. Raises SourceError."""
    _silence_libraries()
    if device.isdigit():
        return webcam(cv2.VideoCapture(int(device)), name)
    return webcam(cv2.VideoCapture(os.path.realpath(device), cv2.CAP_V4L2), name)


def webcam(video: _VideoCapture, name: str) -> Capture:
    """Configures a camera's capture. Raises SourceError if there is no such camera."""
    if not video.isOpened():
        video.release()
        raise SourceError(f"this machine has no {name}, or another program uses it")
    video.set(cv2.CAP_PROP_FOURCC, _MOTION_JPEG)
    if video.get(cv2.CAP_PROP_FOURCC) == _MOTION_JPEG and video.set(cv2.CAP_PROP_CONVERT_RGB, 0):
        if _is_jpeg(video):
            return Capture(video, encoded=True)
        video.set(cv2.CAP_PROP_CONVERT_RGB, 1)
    return Capture(video, encoded=False)


def _open_ffmpeg(url: str, name: str) -> _VideoCapture:
    milliseconds = int(TIMEOUT_S * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    video = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    if not video.isOpened():
        video.release()
        raise SourceError(f"{name} can't be opened: {why_not_opened(url, TIMEOUT_S)}")
    return video


def _is_jpeg(video: _VideoCapture, shown: tuple[int, int] | None = None) -> bool:
    """Grabs a frame and decodes it: the JPEGs of some cameras lack tables that a decoder needs.

    Returns:
        Whether it can be decoded, to a picture of the width and height that a decoder of the film shows, if they are known.
    """
    if not video.grab():
        return False
    there, frame = video.retrieve()
    if not there or frame is None or frame.dtype != np.uint8 or frame.size != max(frame.shape):
        return False
    try:
        height, width = decode(frame.tobytes()).shape[:2]
    except PictureError:
        return False
    return shown is None or 0 in shown or (width, height) == shown


def _silence_libraries() -> None:
    """Keeps the libraries' own messages off standard error: important ones are logged here."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(int(TIMEOUT_S)))
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
