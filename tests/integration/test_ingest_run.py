"""``hand-counter ingest`` as a process, with RTSP cameras, a sidecar and a Valkey."""

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, sidecar_process
from support.processes.workers import KEYS, QueueServer
from support.publishing import HEIGHT, WIDTH, IngestProcess, h264
from support.rtsp_cameras import RtspCameras
from support.waiting import wait_until

from worker.queue.frame import parse_entry

FPS = 10.0
STOPS_S = 15.0
"""An upper bound for a busy machine. The cameras' time-out, for which nobody may wait, is longer."""

SILENCE_S = 600
FOREVER = {"worker.queue.redis_client.SOCKET_TIMEOUT_S": 600.0}
"""Normally 5 s."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two seconds with a key frame each second."""
    return h264(tmp_path_factory.mktemp("film") / "film.ts", [index / FPS for index in range(20)], tune="zerolatency")


@pytest.fixture
def cameras(film: Path) -> Iterator[RtspCameras]:
    """Cameras on the loopback."""
    server = RtspCameras(film, FPS, phases=3)
    yield server
    server.close()


def listing(*entries: str) -> str:
    """Returns a list of cameras."""
    return "\n".join(
        [f"defaults: {{source-timeout: {SILENCE_S}}}", "cameras:", *(f"  - {{{each}}}" for each in entries)]
    )


def published(valkey: QueueServer) -> dict[str, list[float]]:
    """Returns the ts of each stream's frames in the queue."""
    streams: dict[str, list[float]] = {}
    for entry_id, fields in valkey.bytes.xrange(KEYS.frames):
        frame = parse_entry(entry_id.decode(), fields)
        streams.setdefault(frame.stream_name, []).append(frame.ts)
    return streams


def state(valkey: QueueServer, name: str) -> dict[str, str]:
    """Returns what Redis has of a camera."""
    return {key.decode(): value.decode() for key, value in valkey.bytes.hgetall(KEYS.camera(name)).items()}


def asked(process: IngestProcess, path: str) -> tuple[int, str]:
    """Returns the status and the text of an HTTP endpoint."""
    try:
        with urllib.request.urlopen(f"http://{process.http}{path}", timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_many_cameras_in_one_process(valkey: QueueServer, cameras: RtspCameras, tmp_path: Path) -> None:
    """All are published at their limits; one that fails doesn't disturb the others, nor does a change of the list."""
    path = tmp_path / "cameras.yaml"
    entries = [f'name: cam{number}, source: "{cameras.url(number)}"' for number in range(6)]
    dead = "name: dead, source: 'rtsp://me:secret@127.0.0.1:1/x'"
    path.write_text(listing(*entries, dead))
    valkey.bytes.hset("stream_fps_configs", mapping={"*": "1", "cam0": "0", "cam1": "inf"})
    with sidecar_process(redis_url=valkey.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        process = IngestProcess(path, "--redis-url", valkey.url, "--sidecar", sidecar.address, "--progress", "0.2")
        try:
            wait_until(lambda: all(len(published(valkey).get(f"cam{number}", [])) >= 3 for number in range(1, 6)))
            wait_until(lambda: state(valkey, "dead").get("state") == "lost")
            streams = published(valkey)
            for number in range(2, 6):  # a key frame each second, one of which is due each second
                gaps = [b - a for a, b in zip(streams[f"cam{number}"], streams[f"cam{number}"][1:], strict=False)]
                assert all(gap > 0.5 for gap in gaps), gaps
            assert "cam0" not in streams
            assert "refuses connections to port 1" in state(valkey, "dead")["error"]
            # A rate that is told stays while it changes by less than 2 %, and the first frames come closer to each other.
            wait_until(lambda: abs(float(state(valkey, "cam2").get("source_fps", 0)) - FPS) < 0.03 * FPS)
            shown = state(valkey, "cam2")
            assert (shown["state"], shown["codec"], shown["size"]) == ("working", "h264", f"{WIDTH}x{HEIGHT}")
            assert state(valkey, "cam0")["state"] == "working"
            code, text = asked(process, "/healthz")
            assert (code, json.loads(text)["cameras"]) == (200, {"working": 6, "lost": 1})
            assert re.search(
                r'hand_counter_camera_frames_total\{camera="cam0",outcome="thinned"\} [1-9]',
                asked(process, "/metrics")[1],
            )

            describes = cameras.describes
            path.write_text(listing(*entries[1:], f'name: new, source: "{cameras.url(1)}", labels: {{floor: "2"}}'))
            wait_until(lambda: published(valkey).get("new"))
            wait_until(lambda: state(valkey, "cam0")["state"] == state(valkey, "dead")["state"] == "stopped")
            assert cameras.describes == describes + 1
            path.write_text("cameras: [{name: x}]\n")
            wait_until(lambda: process.says("cameras.yaml:1: camera x: give one of source"))
            count = len(published(valkey)["cam1"])
            wait_until(lambda: len(published(valkey)["cam1"]) > count)
            assert process.ended_by(signal.SIGTERM) < STOPS_S
            assert process.says("finished cameras=6")
            assert "secret" not in "\n".join(process.said)
            assert state(valkey, "cam1")["state"] == "stopped"
        finally:
            process.end()


def test_a_stop_waits_for_nobody(valkey: QueueServer, cameras: RtspCameras, tmp_path: Path) -> None:
    """Neither for a camera that is silent nor for a Redis that is."""
    path = tmp_path / "cameras.yaml"
    path.write_text(listing(*(f'name: cam{number}, source: "{cameras.url(number)}"' for number in range(3))))
    process = IngestProcess(path, "--redis-url", valkey.url, constants=FOREVER)
    try:
        wait_until(lambda: len(published(valkey)) == 3)
        cameras.pause()
        valkey.pause()
        assert process.ended_by(signal.SIGTERM) < STOPS_S
    finally:
        valkey.resume()
        process.end()


@pytest.mark.parametrize(
    ("flags", "text", "code", "words"),
    [
        (["--check"], "cameras: [{name: a, source: 0}]", 0, "1 cameras, no errors"),
        (["--check"], "cameras: [{name: a}]", 2, "cameras.yaml:1: camera a: give one of source"),
        ([], "cameras: [{name: a}]", 2, "cameras.yaml:1: camera a: give one of source"),
        (["--http", "127.0.0.1:1:1"], "cameras: []", 2, "--http"),
        (["--http", "192.0.2.1:80"], "cameras: []", 1, "can't listen on --http"),
    ],
)
def test_an_error_is_one_clear_line(tmp_path: Path, flags: list[str], text: str, code: int, words: str) -> None:
    """A wrong list is exit code 2, before anything is started."""
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    process = IngestProcess(path, *flags)
    assert process.wait() == code, process.said
    assert words in process.said[-1]
