"""Cameras and films under load, with real workers, publishers and a real Valkey."""

import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes.ports import free_port
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, sidecar_process
from support.processes.workers import KEYS, QueueServer, accounting, balance, pending, picture, publish, worker
from support.publishing import PublishProcess, jpeg, motion_jpeg
from support.waiting import wait_until

DEFAULTS = ("--max-age", "10", "--unknown-streams", "wait")
"""Those of `hand-counter run`, which `worker` changes."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """Yields a Valkey for both the queue and the limits."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


def results(valkey: QueueServer) -> list[dict]:
    """Returns all results."""
    return [json.loads(fields[b"result"]) for _, fields in valkey.bytes.xrange(KEYS.counts)]


@contextmanager
def cameras(valkey: QueueServer, names: list[str], fps: float) -> Iterator[None]:
    """Publishes live frames of cameras, all at the same time, at a steady rate."""
    stop, payload = threading.Event(), picture()

    def run() -> None:
        while not stop.wait(1 / fps):
            for name in names:
                publish(valkey.bytes, name, time.time(), payload)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def film(folder: Path, frames: int) -> str:
    """Returns a film of so many frames at 10 fps."""
    return str(motion_jpeg(folder / "film.avi", [jpeg(index % 24) for index in range(frames)]))


def test_every_admitted_frame_of_a_film_is_counted(valkey: QueueServer, tmp_path: Path) -> None:
    """Although that takes longer than --max-age and --payload-ttl, which are shortened here."""
    valkey.bytes.hset("stream_fps_configs", "film", "inf")
    flags = ("--redis-url", valkey.url, "--stream-name", "film", "--fast")
    constants = {"worker.publish.frame_writer.FILM_ROOM": 50}
    with sidecar_process(redis_url=valkey.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        process = PublishProcess(film(tmp_path, 150), *flags, "--payload-ttl", "0.2", constants=constants)
        wait_until(lambda: valkey.bytes.xlen(KEYS.frames) >= 50)
        with worker(valkey, "--max-age", "0.2", seconds=0.02, sidecar=sidecar.address) as counting:
            assert process.wait() == 0
            wait_until(lambda: accounting(valkey.bytes).get("received") == 150 and balance(valkey.bytes) == 0)
            assert counting.terminate() == 0
    assert accounting(valkey.bytes) == {"received": 150, "counted": 150}
    assert max(result["timings"]["queue_age"] for result in results(valkey)) > 0.2


def test_a_camera_stays_fresh_beside_a_film(valkey: QueueServer, tmp_path: Path) -> None:
    """Live frames go first, and the film gets the rest; not a frame of it is lost."""
    valkey.bytes.hset("stream_fps_configs", "*", "inf")
    flags = ("--redis-url", valkey.url, "--stream-name", "film", "--fast")
    with sidecar_process(redis_url=valkey.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        process = PublishProcess(film(tmp_path, 200), *flags)
        with worker(valkey, *DEFAULTS, "--threads", "1", seconds=0.02, sidecar=sidecar.address) as counting:
            wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > 0)
            with cameras(valkey, ["camera"], fps=10.0):
                wait_until(lambda: sum(each["stream_name"] == "camera" for each in results(valkey)) > 10)
            assert process.wait() == 0
            wait_until(lambda: pending(valkey.bytes) == 0 and accounting(valkey.bytes).get("received", 0) > 200)
            assert counting.terminate() == 0
    ages: dict[str, list[float]] = {"film": [], "camera": []}
    for result in results(valkey):
        ages[result["stream_name"]].append(result["timings"]["queue_age"])
    assert len(ages["film"]) == 200
    assert len(ages["camera"]) > 10
    # The film's frames wait for their turn behind all the others; a camera's waits for those in progress.
    assert sorted(ages["camera"])[len(ages["camera"]) // 2] < 0.1 * max(ages["film"])


@pytest.mark.parametrize("workers", [1, 3])
def test_overload_costs_frames_and_not_freshness(valkey: QueueServer, workers: int) -> None:
    """Cameras in phase, at several times what the workers can count, get equal shares, and what is counted is fresh."""
    valkey.bytes.hset("stream_fps_configs", "*", "inf")
    names = [f"cam{number}" for number in range(6)]
    with sidecar_process(redis_url=valkey.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        running = [
            worker(
                valkey,
                *DEFAULTS,
                "--threads",
                "1",
                "--consumer",
                f"w{i}",
                seconds=0.15 * workers,
                sidecar=sidecar.address,
            )
            for i in range(workers)
        ]
        opened = [each.__enter__() for each in running]
        try:
            with cameras(valkey, names, fps=5.0):
                wait_until(lambda: accounting(valkey.bytes).get("counted", 0) >= 40)
            assert [each.terminate() for each in opened] == [0] * workers
        finally:
            for each in running:
                each.__exit__(None, None, None)
    fields = accounting(valkey.bytes)
    assert set(fields) <= {"received", "counted", "skipped:superseded"}
    assert fields["skipped:superseded"] > fields["counted"]
    counted = Counter(result["stream_name"] for result in results(valkey))
    assert max(counted.values()) - min(counted.values()) <= 1 + 2 * workers
    ages = sorted(result["timings"]["queue_age"] for result in results(valkey))
    assert ages[len(ages) // 2] < 3.0  # first in, first out would be near --max-age


def test_a_stop_under_overload_loses_nothing(valkey: QueueServer) -> None:
    """What is in progress is counted, what waits is released, and the next worker takes it over at once."""
    names = [f"cam{number}" for number in range(6)]
    flags = (*DEFAULTS, "--unknown-streams", "pace", "--threads", "1", "--claim-idle", "3600")
    with cameras(valkey, names, fps=10.0):
        with worker(valkey, *flags, "--grace", "60", "--consumer", "first", seconds=0.1) as first:
            wait_until(lambda: accounting(valkey.bytes).get("skipped:superseded", 0) > 20)
            assert first.terminate() == 0
        fields, left = accounting(valkey.bytes), pending(valkey.bytes)
        assert (
            0 < balance(valkey.bytes) == left <= 2 * len(names)
        )  # a frame that came again may wait beside a newer one
        assert f"will be delivered again entries={left}" in first.log
        with worker(valkey, *flags, "--consumer", "second", seconds=0.1) as second:
            wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > fields["counted"] + 20)
            assert second.terminate() == 0
    with worker(valkey, "--drain", "--consumer", "third") as third:
        assert third.wait() == 0
    fields = accounting(valkey.bytes)
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    counted = [result["entry_id"] for result in results(valkey)]
    assert len(counted) == len(set(counted)) == fields["counted"]


def test_superseded_frames_are_shown_by_stream(valkey: QueueServer) -> None:
    """In the metrics and in the stream's hash, both as an independent count has it: of the entries in the queue."""
    port = free_port()
    flags = (*DEFAULTS, "--unknown-streams", "pace", "--threads", "1", "--http", f"127.0.0.1:{port}")
    with worker(valkey, *flags, seconds=0.1) as process:
        wait_until(lambda: "the worker has started" in process.log)
        with cameras(valkey, ["cam1", "cam2"], fps=50.0):
            wait_until(lambda: accounting(valkey.bytes).get("skipped:superseded", 0) > 20)
        wait_until(lambda: balance(valkey.bytes) == 0 and pending(valkey.bytes) == 0)
        published = Counter(fields[b"stream_name"].decode() for _, fields in valkey.bytes.xrange(KEYS.frames))
        counted = Counter(result["stream_name"] for result in results(valkey))
        expected = {name: published[name] - counted[name] for name in ("cam1", "cam2")}
        assert sum(expected.values()) == accounting(valkey.bytes)["skipped:superseded"]
        wait_until(lambda: _superseded(valkey) == expected)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            page = answer.read().decode()
        for name, number in expected.items():
            sample = f'hand_counter_stream_skipped_total{{reason="superseded",stream_name="{name}"}} {float(number)}'
            assert sample in page.splitlines()


def _superseded(valkey: QueueServer) -> dict[str, int]:
    """Returns what the hashes of the streams say."""
    return {name: int(valkey.bytes.hget(KEYS.stream(name), "superseded") or 0) for name in ("cam1", "cam2")}
