import socket
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
    """Time-outs that a test can wait for."""
    monkeypatch.setattr(capture, "TIMEOUT_S", 0.5)


def as_row(content: bytes) -> np.ndarray:
    """Encoded bytes as OpenCV hands them over."""
    return np.frombuffer(content, np.uint8)[None, :]


def all_of(path: Path) -> list:
    """Each frame of a film with its position."""
    film = open_url(str(path))
    frames = []
    while film.grab():
        frames.append((film.position, film.retrieve()))
    film.close()
    return frames


def test_motion_jpeg_comes_as_it_was_written(tmp_path: Path) -> None:
    """Every frame of a motion JPEG film is the very bytes that it was made of, the first one too."""
    pictures = [jpeg(index) for index in range(8)]
    frames = all_of(motion_jpeg(tmp_path / "film.avi", pictures))
    assert [frame for _, frame in frames] == pictures
    assert [position for position, _ in frames] == pytest.approx([index / 10 for index in range(8)])


def test_jpegs_that_cannot_be_decoded_are_not_passed_on_as_such(tmp_path: Path) -> None:
    """Where the first JPEG can't be decoded by itself, the film is decoded by FFmpeg, which may know better."""
    whole = jpeg(3)
    without_end = whole[: whole.rindex(b"\xff\xd9")]
    frames = all_of(motion_jpeg(tmp_path / "film.avi", [without_end, whole]))
    assert frames
    assert all(frame.shape == numbered(0).shape for _, frame in frames)


def test_other_films_come_decoded(tmp_path: Path) -> None:
    """H.264 comes as pictures, in order, at the film's own times, uneven ones too."""
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.0]
    frames = all_of(h264(tmp_path / "film.mp4", times))
    assert [position for position, _ in frames] == pytest.approx(times, abs=0.002)
    assert [number_of(cv2.imencode(".jpg", frame)[1].tobytes()) for _, frame in frames] == list(range(6))


@pytest.mark.parametrize("content", [b"", b"no film at all"])
def test_what_is_no_film_is_a_source_error(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is no video is told in our words, and the libraries say nothing."""
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"film\.mp4 can't be opened as a video"):
        open_url(str(path))
    assert capfd.readouterr().err == ""


def test_a_webcam_is_asked_for_motion_jpeg() -> None:
    """A webcam that has motion JPEG gives its bytes as they come, beginning with the first frame."""
    video = FakeVideo([as_row(jpeg(1)), as_row(jpeg(2))])
    camera = webcam(video, 0)
    assert video.properties[cv2.CAP_PROP_FOURCC] == MOTION_JPEG
    assert video.properties[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert [camera.retrieve() for _ in range(2) if camera.grab()] == [jpeg(1), jpeg(2)]
    assert not camera.grab()


@pytest.mark.parametrize("refused", [{cv2.CAP_PROP_FOURCC}, {cv2.CAP_PROP_CONVERT_RGB}])
def test_a_webcam_without_motion_jpeg_gives_pictures(refused: set[int]) -> None:
    """Where the driver refuses, frames are decoded."""
    video = FakeVideo([numbered(1)])
    video.refuses = refused
    camera = webcam(video, 0)
    assert camera.grab()
    np.testing.assert_array_equal(camera.retrieve(), numbered(1))


def test_a_webcam_that_says_motion_jpeg_but_gives_pictures() -> None:
    """A driver that agrees to motion JPEG and then hands over something else is asked for pictures again."""
    video = FakeVideo([numbered(1), numbered(2)])
    camera = webcam(video, 0)
    assert video.properties[cv2.CAP_PROP_CONVERT_RGB] == 1
    assert camera.grab()
    np.testing.assert_array_equal(camera.retrieve(), numbered(2))


def test_no_webcam() -> None:
    """An index without a camera is told as that."""
    video = FakeVideo([], opened=False)
    with pytest.raises(SourceError, match="no webcam 3"):
        webcam(video, 3)
    assert video.released


@pytest.mark.usefixtures("impatient")
def test_a_silent_camera_fails_to_open_in_time() -> None:
    """A camera that accepts a connection and says nothing is given up after the time-out, not after OpenCV's 30 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(SourceError, match="can't be opened"):
            open_url(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x")
        assert 0.4 < time.monotonic() - started < 25


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_falls_silent_ends_in_time() -> None:
    """A camera that sends nothing more is at its end after the time-out."""
    camera = MotionJpegCamera([jpeg(1)], frames=20)
    try:
        source = open_url(camera.url)
        started = time.monotonic()
        while source.grab():
            pass
        assert time.monotonic() - started < 25
        source.close()
    finally:
        camera.close()
