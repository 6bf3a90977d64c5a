"""Opening the source that users name."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from support.camera_servers import Reply, http_server
from support.publishing import HEIGHT, WIDTH, MotionJpegCamera, h264, jpeg, motion_jpeg, number_of, numbered, take

from worker.picture_header import PictureError, size
from worker.publish import open_source as module
from worker.publish.film import Film
from worker.publish.folder import Folder, WatchedFolder
from worker.publish.live import LiveCamera, NotACameraError
from worker.publish.open_source import jpeg_encoder, open_source
from worker.publish.options import Reception, SourceOptions
from worker.publish.simulated import SimulatedCamera
from worker.publish.source import SourceError
from worker.publish.thinning import Unlimited


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a film and a folder of pictures, as the current one."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg())
    motion_jpeg(tmp_path / "film.avi", [jpeg()])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "watch", "kind", "live", "paced"),
    [
        ("film.avi", False, Film, False, True),
        ("photos", False, Folder, False, True),
        ("photos", True, WatchedFolder, True, False),
        ("rtsp://127.0.0.1:1/x", False, LiveCamera, True, False),
        ("udp://:5000", False, LiveCamera, True, False),
        ("synthetic:fps=5,size=160x120", False, SimulatedCamera, True, True),
    ],
)
def test_each_kind_of_source(name: str, watch: bool, kind: type, live: bool, paced: bool) -> None:
    """A name opens its kind of source. Of a camera nothing is opened yet, since it may start later."""
    source = open_source(SourceOptions(source=name, watch=watch))
    assert isinstance(source, kind)
    assert (source.live, source.paced) == (live, paced)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ["film.avi", "photos", "synthetic:size=160x120"])
def test_fast_sources_are_not_paced(name: str) -> None:
    """With --fast nothing is waited for, so a simulated camera isn't live either."""
    source = open_source(SourceOptions(source=name, fast=True))
    assert (source.live, source.paced) == (False, False)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ["film.avi", "synthetic:", "rtsp://127.0.0.1:1/x", "photo"])
def test_only_a_folder_is_watched(name: str) -> None:
    """--watch with anything else is an error."""
    with pytest.raises(SourceError, match="--watch needs a folder"):
        open_source(SourceOptions(source=name, watch=True))


def test_a_webcam_is_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing webcam is an error at the start, because its number is wrong; later it is opened anew each time."""
    with pytest.raises(SourceError, match="no /dev/video99"):
        open_source(SourceOptions(source="99"))
    opened: list[tuple[str, str]] = []

    def open_webcam(source: str, name: str, _: Reception) -> object:
        opened.append((source, name))
        return len(opened)

    monkeypatch.setattr(module, "open_webcam", open_webcam)
    camera = open_source(SourceOptions(source="03"))
    assert opened == [("03", "webcam 3")]
    assert [camera._open(), camera._open()] == [1, 2]


def test_a_film_on_a_server(tmp_path: Path) -> None:
    """A film is read once at its own times, whatever its address looks like, and its end isn't a loss."""
    content = h264(tmp_path / "film.mp4", [0.0, 0.1, 0.2]).read_bytes()
    with http_server({"/stream": Reply(content, ranges=True)}) as base:
        source = open_source(SourceOptions(source=f"{base}/stream"))
        assert isinstance(source, Film)
        frames = take(source)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2]
    assert [frame.ts - frames[0].ts for frame in frames] == pytest.approx([0.0, 0.1, 0.2], abs=0.002)


def test_a_film_on_a_server_that_loops(tmp_path: Path) -> None:
    """It is fetched again."""
    content = h264(tmp_path / "film.mp4", [0.0, 0.1]).read_bytes()
    reply = Reply(content, ranges=True)
    with http_server({"/film": reply}) as base:
        frames = take(open_source(SourceOptions(source=f"{base}/film", loop=True)), 5)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 0, 1, 0]


def test_a_camera_on_a_server() -> None:
    """A server without an end is a camera, and its first connection is used."""
    camera = MotionJpegCamera([jpeg(4)])
    try:
        source = open_source(SourceOptions(source=camera.url))
        assert isinstance(source, LiveCamera)
        assert {number_of(frame.picture) for frame in take(source, 3)} == {4}
    finally:
        camera.close()


def test_snapshots_of_a_server() -> None:
    """A server of single pictures is asked again and again, at the pace that is asked for."""
    numbers = iter(range(1, 20))
    reply = Reply(lambda: jpeg(next(numbers)), kind="image/jpeg", login="Digest")
    with http_server({"/snapshot": reply}) as base:
        source = open_source(SourceOptions(source=f"{base.replace('//', '//me:se%2Fcret@')}/snapshot", folder_fps=50.0))
        assert (source.live, source.paced) == (True, False)
        frames = take(source, 3)
    shown = [number_of(frame.picture) for frame in frames]
    assert shown == [shown[0] + index for index in range(3)]
    assert frames[2].ts - frames[0].ts > 0.01


def test_a_server_that_starts_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Until its answer shows what it is, a server is retried like a camera; a film isn't repeated for ever by that."""
    reply = Reply(status=503)
    with http_server({"/x": reply}) as base, caplog.at_level(logging.INFO):
        source = open_source(SourceOptions(source=f"{base}/x", folder_fps=50.0))
        assert (source.live, source.paced) == (True, False)
        assert [record.reason.partition(": ")[2][:28] for record in caplog.records] == ["the camera has an error (sta"]
        reply.status, reply.content = 200, jpeg(5)
        assert [number_of(frame.picture) for frame in take(source, 3)] == [5, 5, 5]
        assert caplog.messages == ["the camera is lost; retrying", "the camera works again"]
        reply.status = 503
        source = open_source(SourceOptions(source=f"{base}/x"))
        reply.status, reply.content = 200, h264(tmp_path / "film.mp4", [0.0, 0.1]).read_bytes()
        with pytest.raises(NotACameraError, match="is a film; start again"):
            list(source.frames(threading.Event(), Unlimited()))


def test_the_quality_of_jpegs() -> None:
    """A lower quality makes a smaller JPEG of the same picture."""
    small, large = (jpeg_encoder(quality)(numbered(5)) for quality in (10, 95))
    assert size(small) == size(large) == (WIDTH, HEIGHT)
    assert len(small) < len(large)


def test_an_encoder_reports_what_it_cannot_encode() -> None:
    """A picture that is too wide for a JPEG is a PictureError."""
    with pytest.raises(PictureError, match="70000x1 can't be encoded"):
        jpeg_encoder(85)(np.zeros((1, 70_000, 3), np.uint8))


def test_a_film_whose_path_cannot_be_looked_at() -> None:
    """Has the reason of the system, such as a folder that may not be entered."""
    with pytest.raises(SourceError, match="file name too long"):
        open_source(SourceOptions(source="x" * 5000))
