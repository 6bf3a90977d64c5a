"""OpenCV's captures, with what they need around them: time-outs, quiet, and motion JPEG as the bytes it came in."""

from __future__ import annotations

import os
from typing import Any, Protocol

import cv2
import numpy as np

from process.address import mask_password
from worker.picture import Picture, decode
from worker.picture_header import PictureError
from worker.publish.source import SourceError

TIMEOUT_S = 5.0
"""Silence after which an open or a read fails. OpenCV's own 30 s would be 30 s in which a lost camera isn't missed."""

_MOTION_JPEG = cv2.VideoWriter.fourcc(*"MJPG")
_ENCODED = -1
"""The value of CAP_PROP_FORMAT by which FFmpeg hands over what it received instead of decoding it."""


class _VideoCapture(Protocol):
    """What we use of cv2.VideoCapture."""

    def isOpened(self) -> bool: ...  # noqa: N802 (OpenCV's name)
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, prop: int, /) -> float: ...
    def set(self, prop: int, value: float, /) -> bool: ...
    def release(self) -> None: ...


class Capture:
    """An open film or camera. Used by one thread, which it may block for up to TIMEOUT_S."""

    def __init__(self, video: _VideoCapture, encoded: bool) -> None:
        """Takes an open video; where it gives encoded frames, the first one was grabbed already, to see that."""
        self._video = video
        self._encoded = encoded
        self._grabbed = encoded

    @property
    def fps(self) -> float | None:
        """The nominal frames per second, where the source says so."""
        fps = self._video.get(cv2.CAP_PROP_FPS)
        return fps if 0 < fps <= 1000 else None

    @property
    def position(self) -> float:
        """Of the frame that was grabbed, seconds from the beginning, as the film has it."""
        return self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def grab(self) -> bool:
        """Takes the next frame, without giving it; False at the end, and where there was none in time."""
        if self._grabbed:
            self._grabbed = False
            return True
        return self._video.grab()

    def retrieve(self) -> Picture | bytes | None:
        """Gives the grabbed frame: a picture, or a JPEG as it came; None if it can't be had."""
        there, image = self._video.retrieve()
        if not there or image is None:
            return None
        frame: Picture = image
        return frame.tobytes() if self._encoded else frame

    def close(self) -> None:
        """Closes it."""
        self._video.release()


def open_url(name: str) -> Capture:
    """Opens a file or a URL. Raises SourceError."""
    _be_quiet()
    video = _open_ffmpeg(name)
    if video.get(cv2.CAP_PROP_FOURCC) == _MOTION_JPEG and video.set(cv2.CAP_PROP_FORMAT, _ENCODED):
        if _gives_jpeg(video):
            return Capture(video, encoded=True)
        video.release()
        video = _open_ffmpeg(name)
    return Capture(video, encoded=False)


def open_webcam(index: int) -> Capture:
    """Opens a camera of this machine, with motion JPEG if it has that. Raises SourceError."""
    _be_quiet()
    return webcam(cv2.VideoCapture(index), index)


def webcam(video: _VideoCapture, index: int) -> Capture:
    """Sets up a camera's capture."""
    if not video.isOpened():
        video.release()
        raise SourceError(f"no webcam {index} on this machine")
    video.set(cv2.CAP_PROP_FOURCC, _MOTION_JPEG)
    if video.get(cv2.CAP_PROP_FOURCC) == _MOTION_JPEG and video.set(cv2.CAP_PROP_CONVERT_RGB, 0):
        if _gives_jpeg(video):
            return Capture(video, encoded=True)
        video.set(cv2.CAP_PROP_CONVERT_RGB, 1)
    return Capture(video, encoded=False)


def _open_ffmpeg(name: str) -> _VideoCapture:
    milliseconds = int(TIMEOUT_S * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    video = cv2.VideoCapture(name, cv2.CAP_FFMPEG, limits)
    if not video.isOpened():
        video.release()
        raise SourceError(f"{mask_password(name)} can't be opened as a video")
    return video


def _gives_jpeg(video: _VideoCapture) -> bool:
    """Grabs a frame and tries it: some cameras leave out of their JPEGs what a decoder needs."""
    if not video.grab():
        return False
    there, frame = video.retrieve()
    if not there or frame is None or frame.dtype != np.uint8 or frame.size != max(frame.shape):
        return False
    try:
        decode(frame.tobytes())
    except PictureError:
        return False
    return True


def _be_quiet() -> None:
    """Keeps the libraries' own complaints off standard error: what matters is told in our words."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(int(TIMEOUT_S)))
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
