"""Cameras of this machine, through Video4Linux."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import av

from worker.publish.capture import Capture
from worker.publish.failure import why_no_webcam
from worker.publish.options import Reception
from worker.publish.source import SourceError

if TYPE_CHECKING:
    from av.container import InputContainer

OpenDevice = Callable[[str, dict[str, str], float], "InputContainer"]
"""Opens a device with options and a time-out in seconds. Raises what av.open raises."""

_FORMATS: tuple[dict[str, str], ...] = ({"input_format": "mjpeg"}, {})
"""Motion JPEG needn't be encoded again; a camera without it sends what it likes best."""


def device_of(source: str) -> str:
    """Returns the device of a webcam: 0 is /dev/video0."""
    return f"/dev/video{int(source)}" if source.isdigit() else source


def open_webcam(source: str, name: str, reception: Reception, open_device: OpenDevice | None = None) -> Capture:
    """Opens a camera by its number or path. Raises SourceError if there is none."""
    reason = ""
    for options in _FORMATS:
        try:
            container = (open_device or _open)(device_of(source), options, reception.timeout)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = why_no_webcam(error, device_of(source))
        else:
            return Capture(container, name, reception)
    raise SourceError(f"{name} can't be opened: {reason}")


def _open(device: str, options: dict[str, str], timeout: float) -> InputContainer:
    return av.open(device, "r", format="video4linux2", options=options, timeout=timeout)
