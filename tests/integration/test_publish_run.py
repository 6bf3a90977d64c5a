"""``hand-counter publish`` as a process, on a real Valkey, a real RTSP server, a real HTTP camera."""

import itertools
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.camera_servers import Reply, http_server
from support.processes.workers import KEYS, QueueServer
from support.publishing import MotionJpegCamera, PublishProcess, RtspServer, h264, jpeg, motion_jpeg, number_of

from worker.queue.frame import Frame, parse_entry

Publish = Callable[..., PublishProcess]

BLOCKED_S = 30.0
"""A publisher ends within a second on an idle machine; one that is blocked takes as long as the timeouts below."""

FOREVER = {"worker.queue.redis_client.SOCKET_TIMEOUT_S": 600.0}
SILENCE = ("--source-timeout", "600")
"""Timeouts for a silent Redis and camera: normally 5 s, but so long if a test must distinguish them from a busy machine."""


@pytest.fixture
def publish(valkey: QueueServer) -> Iterator[Publish]:
    """Starts publishers, and ends those that a test leaves."""
    processes = []

    def start(source: object, *flags: str, constants: dict[str, float] | None = None) -> PublishProcess:
        where = ("--stream-name", "cam1", "--redis-url", valkey.url)
        process = PublishProcess(str(source), *where, *flags, constants=constants)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.end()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film of 60 s at 25 fps, door.mkv."""
    folder = tmp_path_factory.mktemp("films")
    h264(folder / "door.mkv", [index / 25 for index in range(1500)])
    return folder


@pytest.fixture
def rtsp(films: Path) -> Iterator[RtspServer]:
    """A camera: an RTSP server with the films."""
    server = RtspServer(films)
    yield server
    server.kill()


def entries(valkey: QueueServer) -> list[Frame]:
    """Returns the frames in the queue."""
    return [parse_entry(entry_id.decode(), fields) for entry_id, fields in valkey.bytes.xrange(KEYS.frames)]


def length(valkey: QueueServer) -> int:
    """Returns the number of entries in the queue."""
    return valkey.bytes.xlen(KEYS.frames)


def test_a_film_in_real_time(valkey: QueueServer, publish: Publish, tmp_path: Path) -> None:
    """A film is published at the pace of its own timestamps; ts are Unix seconds with the same gaps."""
    times = [0.0, 0.1, 0.2, 0.8, 0.9, 1.5]
    before = time.time()
    process = publish(h264(tmp_path / "film.mp4", times))
    assert process.wait() == 0
    frames = entries(valkey)
    assert [number_of(valkey.bytes.get(frame.frame_key)) for frame in frames] == list(range(6))
    assert [frame.ts - frames[0].ts for frame in frames] == pytest.approx(times, abs=0.002)
    assert before < frames[0].ts < time.time()
    assert frames[-1].arrived_at - frames[0].arrived_at > 1.4
    assert process.says("published=6")
    assert process.says("dropped=0")


def test_a_looped_film_as_fast_as_possible(valkey: QueueServer, publish: Publish, tmp_path: Path) -> None:
    """With --fast and --loop ts continues evenly across loops, although nothing waits; --count stops it."""
    pictures = [jpeg(index) for index in range(7)]
    process = publish(motion_jpeg(tmp_path / "film.avi", pictures), "--fast", "--loop", "--count", "500")
    assert process.wait() == 0
    frames = entries(valkey)
    assert len(frames) == 500
    gaps = [later.ts - earlier.ts for earlier, later in itertools.pairwise(frames)]
    assert gaps == pytest.approx([0.1] * 499, abs=0.001)
    payloads = valkey.bytes.mget([frame.frame_key for frame in frames])
    assert payloads == [pictures[index % 7] for index in range(500)]


def test_a_folder(valkey: QueueServer, publish: Publish, tmp_path: Path) -> None:
    """A folder of pictures is published at --source-fps."""
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    assert publish(tmp_path, "--source-fps", "20").wait() == 0
    frames = entries(valkey)
    assert [frame.ts - frames[0].ts for frame in frames] == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_motion_jpeg_over_http_is_not_encoded_again(valkey: QueueServer, publish: Publish) -> None:
    """The JPEGs of a motion JPEG camera are in Redis byte for byte; ts is the time of arrival."""
    pictures = [jpeg(index) for index in range(20)]
    camera = MotionJpegCamera(pictures)
    try:
        before = time.time()
        process = publish(camera.url, "--count", "20")
        assert process.wait() == 0, process.said
        frames = entries(valkey)
        payloads = [valkey.bytes.get(frame.frame_key) for frame in frames]
        first = pictures.index(payloads[0])
        assert payloads == [pictures[(first + index) % 20] for index in range(20)]
        assert before < frames[0].ts < frames[-1].ts < time.time()
    finally:
        camera.close()


def test_a_folder_that_a_camera_uploads_to(valkey: QueueServer, publish: Publish, tmp_path: Path) -> None:
    """Pictures that arrive in a watched folder are published; what was there before isn't."""
    (tmp_path / "old.jpg").write_bytes(jpeg(0))
    process = publish(tmp_path, "--watch", "--count", "2")
    process.until(lambda: process.says("publishing"))
    for index in (1, 2):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    assert process.wait() == 0, process.said
    assert [number_of(valkey.bytes.get(frame.frame_key)) for frame in entries(valkey)] == [1, 2]


def test_a_film_and_snapshots_on_a_server(valkey: QueueServer, publish: Publish, tmp_path: Path) -> None:
    """A film by HTTP ends at its end, and a snapshot's address is asked at --source-fps, whatever the addresses look like."""
    film = h264(tmp_path / "film.mp4", [0.0, 0.1, 0.2]).read_bytes()
    replies = {"/stream": Reply(film, ranges=True), "/cam.mp4": Reply(jpeg(9), kind="image/jpeg")}
    with http_server(replies) as base:
        assert publish(f"{base}/stream").wait() == 0
        assert [number_of(valkey.bytes.get(frame.frame_key)) for frame in entries(valkey)] == [0, 1, 2]
        started = time.monotonic()
        assert publish(f"{base}/cam.mp4", "--source-fps", "20", "--count", "10").wait() == 0
    assert time.monotonic() - started > 0.4
    assert [number_of(valkey.bytes.get(frame.frame_key)) for frame in entries(valkey)[3:]] == [9] * 10


def test_a_lost_rtsp_camera_works_again(valkey: QueueServer, publish: Publish, rtsp: RtspServer) -> None:
    """A camera that is killed and started again is published again; each change is one line, and ts never decreases."""
    process = publish(rtsp.url("door.mkv"), "--progress", "0.5")
    process.until(lambda: length(valkey) > 30)
    rtsp.kill()
    process.until(lambda: process.says("it sends no more frames"))
    before = length(valkey)
    rtsp.start()
    process.until(lambda: process.says("the camera works again"))
    process.until(lambda: length(valkey) > before + 30)
    assert process.ended_by(signal.SIGTERM) < BLOCKED_S
    assert len(process.says("the camera is lost; retrying")) == 1
    assert len(process.says("the camera works again")) == 1
    times = [frame.ts for frame in entries(valkey)]
    assert times == sorted(times)
    assert process.says("progress stream=cam1 published=")


def test_a_camera_that_starts_later(valkey: QueueServer, publish: Publish, rtsp: RtspServer) -> None:
    """A publisher may start before its camera."""
    rtsp.kill()
    process = publish(rtsp.url("door.mkv"), "--count", "10")
    process.until(lambda: process.says("can't be opened"))
    rtsp.start()
    assert process.wait() == 0
    assert length(valkey) == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once(valkey: QueueServer, publish: Publish, number: int) -> None:
    """Ctrl-C and SIGTERM end a running publisher without any wait, with exit code 0 and the totals."""
    process = publish("synthetic:fps=25,hands=1,size=160x120", "--progress", "600")
    process.until(lambda: length(valkey) > 5)
    assert process.ended_by(number) < BLOCKED_S
    assert process.says("finished stream=cam1 seconds=")
    assert "Traceback" not in "\n".join(process.said)


def test_ctrl_c_while_a_camera_is_silent(valkey: QueueServer, publish: Publish) -> None:
    """A camera that accepts the connection and sends nothing doesn't delay Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = publish(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", *SILENCE)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1000).startswith(b"OPTIONS")
            assert process.ended_by(signal.SIGINT) < BLOCKED_S


def test_ctrl_c_after_a_camera_stopped_sending(valkey: QueueServer, publish: Publish, rtsp: RtspServer) -> None:
    """A camera that stops sending doesn't delay Ctrl-C."""
    process = publish(rtsp.url("door.mkv"), "--progress", "0.5", *SILENCE)
    process.until(lambda: length(valkey) > 10)
    rtsp.signal(signal.SIGSTOP)
    said = len(process.said)
    process.until(lambda: any(" fps=0 " in line for line in process.said[said:]))
    assert process.ended_by(signal.SIGINT) < BLOCKED_S


def test_ctrl_c_while_redis_is_paused(valkey: QueueServer, publish: Publish) -> None:
    """A paused Redis doesn't delay Ctrl-C."""
    process = publish("synthetic:fps=25,hands=1,size=160x120", "--progress", "0.2", constants=FOREVER)
    process.until(lambda: length(valkey) > 5)
    valkey.pause()
    try:
        process.until(lambda: any(not line.endswith(" dropped=0") for line in process.says("dropped=")))
        assert process.ended_by(signal.SIGINT) < BLOCKED_S
    finally:
        valkey.resume()


def test_a_live_source_continues_without_redis(valkey: QueueServer, publish: Publish) -> None:
    """While Redis is unreachable a camera's frames are dropped and counted; both changes are logged once."""
    process = publish("synthetic:fps=30,hands=0,size=160x120", "--progress", "0.2")
    process.until(lambda: length(valkey) > 5)
    valkey.kill()
    try:
        process.until(lambda: process.says("Redis is unreachable"))
        process.until(lambda: any(not line.endswith(" dropped=0") for line in process.says("dropped=")))
    finally:
        valkey.restart()
    process.until(lambda: process.says("Redis works again"))
    before = length(valkey)
    process.until(lambda: length(valkey) > before + 10)
    assert process.ended_by(signal.SIGINT) < BLOCKED_S
    assert len(process.says("Redis is unreachable")) == 1
    times = [frame.ts for frame in entries(valkey)]
    assert len(set(times)) == len(times)


def test_a_film_loses_nothing_without_redis(valkey: QueueServer, publish: Publish, tmp_path: Path) -> None:
    """While Redis is unreachable a film waits; every frame is published exactly once."""
    film = h264(tmp_path / "film.mp4", [index / 25 for index in range(100)])
    process = publish(film)
    process.until(lambda: length(valkey) > 5)
    valkey.pause()
    process.until(lambda: process.says("Redis is unreachable"))
    valkey.resume()
    assert process.wait() == 0
    times = [frame.ts for frame in entries(valkey)]
    assert [ts - times[0] for ts in times] == pytest.approx([index / 25 for index in range(100)], abs=0.002)


@pytest.mark.parametrize(
    ("source", "flags", "code", "complaint"),
    [
        ("nothing.mp4", [], 1, "nothing.mp4: no such file or folder"),
        (__file__, [], 1, "can't be read as a video"),
        ("synthetic:", ["--watch"], 1, "--watch needs a folder"),
        (str(Path(__file__).parent), [], 1, "no pictures in this folder"),
        ("99", [], 1, "this machine has no /dev/video99"),
        ("ftp://host/film", [], 2, "expected a URL that begins with rtsp"),
        ("synthetic:fps=fast", [], 2, "expected fps=25"),
        ("0", ["--stream-name", ""], 2, "stream_name must not be empty"),
        ("0", ["--stream-name", "x" * 257], 2, "at most 256 characters"),
        ("0", ["--redis-url", "localhost"], 2, "a Redis URL begins with redis://"),
        ("0", ["--count", "0"], 2, "--count"),
        ("0", ["--payload-ttl", "0"], 2, "--payload-ttl"),
        (
            "rtsp://127.0.0.1:1/x",
            ["--duration", "0.1"],
            1,
            "no frame was published stream=cam1 source=rtsp://127.0.0.1:1/…",
        ),
    ],
)
def test_an_error_is_one_clear_line(publish: Publish, source: str, flags: list[str], code: int, complaint: str) -> None:
    """A source that can't be read is exit code 1, a wrong value 2; the last line has the reason."""
    process = publish(source, *flags)
    assert process.wait() == code, process.said
    assert complaint in process.said[-1]
    assert "Traceback" not in "\n".join(process.said)
