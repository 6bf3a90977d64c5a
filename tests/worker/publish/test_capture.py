import socket
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.publishing import FakeVideo, MotionJpegCamera, h264, jpeg, motion_jpeg, number_of, numbered

from worker.publish import capture
from worker.publish.capture import open_url, webcam
from worker.publish.source import SourceError

MOTION_JPEG = cv2.VideoWriter.fourcc(*"MJPG")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs that are short enough for a test."""
    monkeypatch.setattr(capture, "TIMEOUT_S", 0.5)


def as_row(content: bytes) -> np.ndarray:
    """Returns encoded bytes as OpenCV returns them."""
    return np.frombuffer(content, np.uint8)[None, :]


def all_of(path: Path) -> list:
    """Returns each frame of a film with its position."""
    film = open_url(str(path), path.name)
    frames = []
    while film.grab():
        frames.append((film.position, film.retrieve()))
    film.close()
    return frames


def test_motion_jpeg_is_not_decoded(tmp_path: Path) -> None:
    """Every frame of a motion JPEG film, the first one too, is exactly the JPEG in the file."""
    pictures = [jpeg(index) for index in range(8)]
    frames = all_of(motion_jpeg(tmp_path / "film.avi", pictures))
    assert [frame for _, frame in frames] == pictures
    assert [position for position, _ in frames] == pytest.approx([index / 10 for index in range(8)])


def test_incomplete_jpegs_are_decoded_by_ffmpeg(tmp_path: Path) -> None:
    """If the first JPEG can't be decoded on its own, FFmpeg decodes the film, which may succeed."""
    whole = jpeg(3)
    without_end = whole[: whole.rindex(b"\xff\xd9")]
    frames = all_of(motion_jpeg(tmp_path / "film.avi", [without_end, whole]))
    assert frames
    assert all(frame.shape == numbered(0).shape for _, frame in frames)


def test_motion_jpeg_is_turned_as_the_container_says(tmp_path: Path) -> None:
    """A film that is to be shown turned by 90 degrees is decoded and turned."""
    path = motion_jpeg(tmp_path / "film.mov", [jpeg(index) for index in range(3)])
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    turned = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    content[matrix : matrix + 36] = struct.pack(">9i", *turned)
    path.write_bytes(content)
    assert [frame.shape for _, frame in all_of(path)] == [(160, 120, 3)] * 3


def test_the_fields_of_motion_jpeg_are_woven(tmp_path: Path) -> None:
    """A film whose frames consist of two JPEGs of half the height is decoded to whole frames."""
    field = cv2.imencode(".jpg", numbered(3)[::2])[1].tobytes()
    frames = all_of(motion_jpeg(tmp_path / "film.avi", [field * 2] * 3))
    assert frames
    assert {frame.shape for _, frame in frames} == {(120, 160, 3)}


def test_other_films_are_decoded(tmp_path: Path) -> None:
    """H.264 is decoded to pictures, in order, at the film's own times, uneven ones too."""
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.0]
    frames = all_of(h264(tmp_path / "film.mp4", times))
    assert [position for position, _ in frames] == pytest.approx(times, abs=0.002)
    assert [number_of(cv2.imencode(".jpg", frame)[1].tobytes()) for _, frame in frames] == list(range(6))


@pytest.mark.parametrize("content", [b"", b"not a film"])
def test_a_file_that_is_not_a_film(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that isn't a film is a SourceError, and the libraries print nothing."""
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"film\.mp4 can't be opened: it can't be read as a video"):
        open_url(str(path), path.name)
    assert capfd.readouterr().err == ""


def test_a_webcam_with_motion_jpeg() -> None:
    """Frames of a webcam with motion JPEG aren't decoded, from the first one on."""
    video = FakeVideo([as_row(jpeg(1)), as_row(jpeg(2))])
    camera = webcam(video, "webcam 0")
    assert video.properties[cv2.CAP_PROP_FOURCC] == MOTION_JPEG
    assert video.properties[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert [camera.retrieve() for _ in range(2) if camera.grab()] == [jpeg(1), jpeg(2)]
    assert not camera.grab()


@pytest.mark.parametrize("refused", [{cv2.CAP_PROP_FOURCC}, {cv2.CAP_PROP_CONVERT_RGB}])
def test_a_webcam_without_motion_jpeg(refused: set[int]) -> None:
    """If the driver refuses motion JPEG, frames are decoded."""
    video = FakeVideo([numbered(1)])
    video.refuses = refused
    camera = webcam(video, "webcam 0")
    assert camera.grab()
    np.testing.assert_array_equal(camera.retrieve(), numbered(1))


def test_a_webcam_whose_motion_jpeg_is_not_jpeg() -> None:
    """If a driver accepts motion JPEG but returns something else, frames are decoded."""
    video = FakeVideo([numbered(1), numbered(2)])
    camera = webcam(video, "webcam 0")
    assert video.properties[cv2.CAP_PROP_CONVERT_RGB] == 1
    assert camera.grab()
    np.testing.assert_array_equal(camera.retrieve(), numbered(2))


def test_no_webcam() -> None:
    """An index without a camera is a SourceError."""
    video = FakeVideo([], opened=False)
    with pytest.raises(SourceError, match="this machine has no webcam 3"):
        webcam(video, "webcam 3")
    assert video.released


@pytest.mark.usefixtures("impatient")
def test_a_silent_camera_fails_to_open_in_time() -> None:
    """A camera that accepts a connection and sends nothing fails after the timeout, not after OpenCV's 30 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(SourceError, match="can't be opened"):
            open_url(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", "door")
        assert 0.4 < time.monotonic() - started < 25


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_stops_sending_ends_in_time() -> None:
    """The capture of a camera that stops sending ends after the timeout."""
    camera = MotionJpegCamera([jpeg(1)], frames=20)
    try:
        source = open_url(camera.url, "door")
        started = time.monotonic()
        while source.grab():
            pass
        assert time.monotonic() - started < 25
        source.close()
    finally:
        camera.close()
