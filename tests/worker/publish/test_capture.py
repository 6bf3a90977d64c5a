"""Reading an open film or camera: silence, ends and damage."""

import gc
import threading
import time
from pathlib import Path

import av
import pytest
from support.camera_servers import Reply, UdpCamera, http_server
from support.limits import RuleDue
from support.publishing import MotionJpegCamera, encode, h264, jpeg, number_of
from support.rtsp_cameras import RtspCameras
from support.senders import RtmpServer, udp_sender

from worker.publish.arrival import ArrivalTimes
from worker.publish.capture import Capture, open_capture
from worker.publish.container import Nature
from worker.publish.options import Reception
from worker.publish.source import SourceFrame
from worker.publish.thinning import Due, Unlimited
from worker.publish.timeline import Timeline

PATIENT = Reception(timeout=20.0)


def read(capture: Capture, due: Due | None = None) -> list[SourceFrame]:
    """Reads a capture to its end."""
    frames = list(capture.frames(ArrivalTimes(time.time), due or Unlimited(), encode, threading.Event()))
    capture.close()
    return frames


def test_what_a_film_says(tmp_path: Path) -> None:
    """Its codec and nominal rate are known, and why there are no more frames."""
    capture = open_capture(f"file:{h264(tmp_path / 'film.mp4', [index / 25 for index in range(10)])}", "film", PATIENT)
    assert (capture.codec, capture.fps) == ("h264", pytest.approx(25.0))
    assert len(read(capture)) == 10
    assert (capture.arrived, capture.error, capture.fruitless) == (10, None, False)
    assert capture.why_ended == "it sends no more frames"


def test_damage_in_the_middle(tmp_path: Path) -> None:
    """Packets that can't be decoded are left out, and the others are shown."""
    path = h264(tmp_path / "film.ts", [index / 25 for index in range(60)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 188 * 188
    content[middle : middle + 5 * 188] = bytes(5 * 188)
    path.write_bytes(content)
    frames = read(open_capture(f"file:{path}", "film", PATIENT))
    assert 30 <= len(frames) <= 60
    assert number_of(frames[-1].encode()) == 59 % 24


def test_a_camera_that_stops_sending_ends_in_time() -> None:
    """The capture of a camera that stops sending ends after the time-out, and says so."""
    camera = MotionJpegCamera([jpeg(1)], frames=20)
    try:
        started = time.monotonic()
        capture = open_capture(camera.url, "door", Reception(timeout=0.5))
        frames = read(capture)
        assert len(frames) >= 15
        assert capture.why_ended == "nothing has arrived for 0.5 s"
        assert time.monotonic() - started < 25
    finally:
        camera.close()


def test_a_stop_ends_it(tmp_path: Path) -> None:
    """No packet is read after a stop."""
    capture = open_capture(f"file:{h264(tmp_path / 'film.mp4', [index / 25 for index in range(50)])}", "film", PATIENT)
    stop = threading.Event()
    frames = capture.frames(ArrivalTimes(time.time), Unlimited(), encode, stop)
    next(frames)
    stop.set()
    assert list(frames) == []
    capture.close()


def test_what_was_not_asked_for_is_not_damaged(tmp_path: Path) -> None:
    """A paused source without a decoded frame isn't fruitless."""
    capture = open_capture(f"file:{h264(tmp_path / 'film.mp4', [0.0, 0.04])}", "film", PATIENT)
    assert [frame.encode for frame in read(capture, RuleDue(0.0))] == [None, None]
    assert not capture.fruitless


@pytest.mark.parametrize("bf", ["0", "2"])
@pytest.mark.parametrize(("gop", "limit"), [("25", 1.0), ("50", 1.0), ("100", 0.5), ("50", 5.0)])
def test_a_limited_camera_shows_what_a_film_does(tmp_path: Path, gop: str, bf: str, limit: float) -> None:
    """Its packets are held until they are needed, and the frames that are due are the same, undamaged and each shown once."""
    path = h264(tmp_path / "film.ts", [index / 25 for index in range(200)], g=gop, bf=bf, sc_threshold="0")

    def published(capture: Capture) -> tuple[list[tuple[float, int]], int, bool]:
        due, taken, arrived, paused = RuleDue(limit), [], 0, False
        for frame in capture.frames(Timeline(0.0, 0.04), due, encode, threading.Event()):
            arrived += 1
            paused = paused or capture._decoder._context is None
            if frame.encode is not None and due.is_due(frame.ts):
                taken.append((round(frame.ts, 3), number_of(frame.encode())))
                due.taken(frame.ts)
        capture.close()
        return taken, arrived, paused

    film = published(open_capture(f"file:{path}", "film", PATIENT))
    with http_server({"/live": Reply(path.read_bytes(), length=False, kind="video/mp2t")}) as server:
        camera = published(open_capture(f"{server}/live", "door", PATIENT))
    if bf == "0":  # else some frames are left in the decoder where what follows is left out
        assert (film[1], camera[1]) == (200, 200)
    assert (film[2], camera[2]) == (False, True)
    assert camera[0] == film[0]
    assert all(number == round(ts * 25) % 24 for ts, number in camera[0])
    assert len(camera[0]) == 8 * limit


@pytest.fixture
def udp_camera(tmp_path: Path) -> UdpCamera:
    """A camera that sends over UDP, to those who log in by digest."""
    camera = UdpCamera(h264(tmp_path / "door.ts", [index / 25 for index in range(400)]))
    yield camera
    camera.close()


def test_rtsp_over_udp_with_a_digest_login(udp_camera: UdpCamera) -> None:
    """The transport is asked for, the password isn't sent in clear, and frames arrive."""
    url = f"rtsp://me:se%2Fcret@127.0.0.1:{udp_camera.port}/x"
    capture = open_capture(url, "door", Reception("udp", 10.0))
    frames = capture.frames(ArrivalTimes(time.time), Unlimited(), encode, threading.Event())
    pictures = [number_of(next(frames).encode()) for _ in range(30)]
    capture.close()
    assert pictures == [(pictures[0] + index) % 24 for index in range(30)]
    assert udp_camera.methods[:5] == ["OPTIONS", "DESCRIBE", "DESCRIBE", "SETUP", "PLAY"]


def numbers(capture: Capture, count: int) -> list[int]:
    """Returns the numbers of a camera's next frames."""
    frames = capture.frames(ArrivalTimes(time.time), Unlimited(), encode, threading.Event())
    return [number_of(next(frames).encode()) for _ in range(count)]


@pytest.fixture(scope="module")
def live_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that can be sent over and over."""
    return h264(tmp_path_factory.mktemp("live") / "film.ts", [index / 25 for index in range(48)], tune="zerolatency")


def test_a_transport_stream_over_udp(live_film: Path) -> None:
    """It is received from wherever it stands, as a camera whose clock may jump."""
    with udp_sender(live_film) as url:
        capture = open_capture(url, "door", PATIENT)
        pictures = numbers(capture, 60)
        capture.close()
    assert pictures == [(pictures[0] + index) % 24 for index in range(60)]
    assert (capture.nature, capture.clock_may_change, capture.codec) == (Nature.CAMERA, True, "h264")


def test_a_stream_of_a_media_server(live_film: Path) -> None:
    """RTMP is a camera too; its end is a loss."""
    server = RtmpServer(live_film)
    try:
        capture = open_capture(server.url, "door", PATIENT)
        assert numbers(capture, 60) == [index % 24 for index in range(60)]
    finally:
        server.close()
    read(capture)
    assert (capture.nature, capture.codec) == (Nature.CAMERA, "h264")
    assert capture.why_ended.startswith("it sends no more frames")


def test_frames_are_not_kept(tmp_path: Path) -> None:
    """No frame stays in memory until a garbage collection: at 1080p each has 3 MB."""
    capture = open_capture(f"file:{h264(tmp_path / 'film.mp4', [index / 25 for index in range(100)])}", "film", PATIENT)
    gc.collect()
    gc.disable()
    try:
        frames = capture.frames(ArrivalTimes(time.time), Unlimited(), encode, threading.Event())
        for frame in frames:
            frame.encode()
        kept = [each for each in gc.get_objects() if type(each) is av.VideoFrame]
    finally:
        gc.enable()
        capture.close()
    assert len(kept) < 10


@pytest.mark.parametrize(
    ("ahead", "reports", "expected"), [(-0.6, True, -0.6), (0.0, False, 0.0), (-3600.0, True, 0.0)]
)
def test_the_times_of_a_camera(tmp_path: Path, ahead: float, reports: bool, expected: float) -> None:
    """Those of its sender reports count, if it sends any and its clock is synchronised; else the times of arrival."""
    film = h264(tmp_path / "film.ts", [index / 25 for index in range(50)], tune="zerolatency")
    cameras = RtspCameras(film, 25.0, clock_offset=ahead, reports=reports)
    try:
        capture = open_capture(cameras.url(0), "camera", PATIENT)
        times, offsets = ArrivalTimes(time.time), list[float]()
        for frame in capture.frames(times, Unlimited(), encode, threading.Event()):
            offsets.append(frame.ts - times._now)
            if len(offsets) == 80:
                break
        capture.close()
    finally:
        cameras.close()
    # What was received while the camera was opened arrives at once, at first, and this machine may be busy.
    assert sorted(offsets[40:])[20] == pytest.approx(expected, abs=0.3)
