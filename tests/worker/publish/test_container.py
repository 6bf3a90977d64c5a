"""What a server sends, whatever it is called."""

from pathlib import Path

import pytest
from support.camera_servers import Reply, http_server
from support.publishing import MotionJpegCamera, h264, jpeg

from worker.publish.capture import open_capture
from worker.publish.container import Nature, clock_may_change, nature_of, open_container, video_of
from worker.publish.options import Reception

RECEPTION = Reception(timeout=20.0)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same film in several containers."""
    folder, times = tmp_path_factory.mktemp("films"), [index / 25 for index in range(50)]
    return {suffix: h264(folder / f"film.{suffix}", times).read_bytes() for suffix in ("mp4", "mkv", "ts", "flv")}


@pytest.mark.parametrize(
    ("what", "ranges", "length", "path", "nature"),
    [
        ("mp4", True, True, "/video", Nature.FILM),
        ("mp4", False, False, "/live.sdp", Nature.FILM),
        ("mkv", False, False, "/film", Nature.FILM),
        ("flv", False, False, "/film", Nature.FILM),
        ("ts", True, True, "/cam", Nature.FILM),
        ("ts", False, True, "/cam", Nature.FILM),
        ("ts", False, False, "/film.mp4", Nature.CAMERA),
        ("jpg", False, True, "/video.mp4", Nature.SNAPSHOT),
        ("jpg", False, False, "/snapshot.jpg", Nature.SNAPSHOT),
    ],
)
def test_natures(films: dict[str, bytes], what: str, ranges: bool, length: bool, path: str, nature: Nature) -> None:
    """A film has a duration or a size, a camera neither, and a single picture is a snapshot; the suffix says nothing."""
    content = jpeg(3) if what == "jpg" else films[what]
    with (
        http_server({path: Reply(content, ranges=ranges, length=length)}) as base,
        open_container(f"{base}{path}", "door", RECEPTION) as container,
    ):
        assert nature_of(container) is nature


@pytest.mark.parametrize(("ends", "nature"), [(True, Nature.FILM), (False, Nature.CAMERA)])
def test_playlists(films: dict[str, bytes], ends: bool, nature: Nature) -> None:
    """A playlist that is continued is a camera's."""
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\npart.ts\n" + "#EXT-X-ENDLIST\n" * ends
    replies = {
        "/list.m3u8": Reply(playlist.encode(), kind="application/vnd.apple.mpegurl"),
        "/part.ts": Reply(films["ts"]),
    }
    with http_server(replies) as base, open_container(f"{base}/list.m3u8", "door", RECEPTION) as container:
        assert nature_of(container) is nature


def test_a_motion_jpeg_camera() -> None:
    """A server that sends one JPEG after the other is a camera."""
    camera = MotionJpegCamera([jpeg(1)])
    try:
        capture = open_capture(camera.url, "door", RECEPTION)
        assert capture.nature is Nature.CAMERA
        capture.close()
    finally:
        camera.close()


def test_clocks_that_may_change(tmp_path: Path) -> None:
    """Only the timestamps of transport streams and the like jump."""
    for suffix, may_change in (("ts", True), ("mp4", False)):
        with open_container(f"file:{h264(tmp_path / f'film.{suffix}', [0.0, 0.1, 0.2])}", "x", RECEPTION) as container:
            assert clock_may_change(container) is may_change
            assert video_of(container, "x").codec_context.name == "h264"
