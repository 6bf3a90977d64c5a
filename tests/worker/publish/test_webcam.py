"""Cameras of this machine, which no test has: their devices are files here."""

import threading
from pathlib import Path

import av
import pytest
from support.publishing import encode, h264, jpeg, motion_jpeg, number_of

from worker.publish.arrival import ArrivalTimes
from worker.publish.options import Reception
from worker.publish.source import SourceError
from worker.publish.thinning import Unlimited
from worker.publish.webcam import device_of, open_webcam


class Devices:
    """Opens a file for each set of options that the camera accepts."""

    def __init__(self, accepted: dict[str, Path], error: Exception | None = None) -> None:
        self.tried: list[tuple[str, str]] = []
        self._accepted = accepted
        self._error = error or OSError(22, "Invalid argument")

    def __call__(self, device: str, options: dict[str, str], timeout: float) -> av.container.InputContainer:  # noqa: ARG002
        wanted = options.get("input_format", "")
        self.tried.append((device, wanted))
        if wanted not in self._accepted:
            raise self._error
        return av.open(str(self._accepted[wanted]))


def pictures(devices: Devices) -> list[bytes]:
    """Returns the pictures of a webcam."""
    capture = open_webcam("0", "webcam 0", Reception(), devices)
    frames = capture.frames(ArrivalTimes(lambda: 0.0), Unlimited(), encode, threading.Event())
    found = [frame.encode() for frame in frames]
    capture.close()
    return found


@pytest.mark.parametrize(
    ("source", "device"),
    [("0", "/dev/video0"), ("03", "/dev/video3"), ("/dev/v4l/by-id/usb-x", "/dev/v4l/by-id/usb-x")],
)
def test_devices(source: str, device: str) -> None:
    """A number is a device's; a path stays one."""
    assert device_of(source) == device


def test_a_webcam_with_motion_jpeg(tmp_path: Path) -> None:
    """Its frames aren't decoded."""
    devices = Devices({"mjpeg": motion_jpeg(tmp_path / "x.avi", [jpeg(1), jpeg(2)])})
    assert pictures(devices) == [jpeg(1), jpeg(2)]
    assert devices.tried == [("/dev/video0", "mjpeg")]


def test_a_webcam_without_motion_jpeg(tmp_path: Path) -> None:
    """A camera that refuses motion JPEG sends what it likes."""
    devices = Devices({"": h264(tmp_path / "x.mp4", [0.0, 0.04])})
    assert [number_of(picture) for picture in pictures(devices)] == [0, 1]
    assert devices.tried == [("/dev/video0", "mjpeg"), ("/dev/video0", "")]


def test_a_webcam_whose_motion_jpeg_is_incomplete(tmp_path: Path) -> None:
    """JPEGs that can't be decoded on their own are decoded by FFmpeg."""
    whole = jpeg(3)
    devices = Devices({"mjpeg": motion_jpeg(tmp_path / "x.avi", [whole[: whole.rindex(b"\xff\xd9")]] * 2)})
    assert [number_of(picture) for picture in pictures(devices)] == [3, 3]


def test_no_webcam() -> None:
    """The reason and what to try are named; the real machine has no such device either."""
    with pytest.raises(SourceError, match="webcam 99 can't be opened: this machine has no /dev/video99"):
        open_webcam("99", "webcam 99", Reception())
    with pytest.raises(SourceError, match="isn't a camera that captures pictures"):
        open_webcam("1", "webcam 1", Reception(), Devices({}))
    with pytest.raises(SourceError, match="usually video"):
        open_webcam("1", "webcam 1", Reception(), Devices({}, PermissionError(13, "x")))
