"""What a worker shows of its streams agrees with an independent count: in its metrics and in Redis."""

import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.frame_queue import FrameQueue
from support.processes.ports import free_port
from support.processes.sidecars import sidecar_process
from support.processes.workers import KEYS, QueueServer, picture, worker
from support.waiting import wait_until

from worker.publish.source import Captured
from worker.queue.redis_client import connect

FPS, LIMIT, SECONDS = 10.0, 2.0, 12.0


def scrape(port: int) -> dict[str, float]:
    """The samples of /metrics by name and labels, as they are written."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        lines = [line for line in reply.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def camera(valkey: QueueServer, published: list[float]) -> None:
    """Publishes frames at a steady pace, and notes when."""
    payload = picture(width=1280, height=720)
    with connect(valkey.url) as client:
        queue = FrameQueue(client, KEYS, "cam1")
        began = time.monotonic()
        for i in range(round(SECONDS * FPS)):
            time.sleep(max(0.0, began + i / FPS - time.monotonic()))
            queue.publish(Captured(1000.0 + i / FPS, payload))
            published.append(time.monotonic())


@pytest.mark.slow
def test_what_is_shown_agrees_with_a_count(tmp_path: Path) -> None:
    """Within 2 % while a camera publishes, and 0 soon after it has stopped."""
    valkey, port, published = QueueServer(tmp_path), free_port(), list[float]()
    name = 'stream_name="cam1"'
    with (
        valkey.bytes,
        sidecar_process(redis_url=valkey.url, fps=LIMIT) as sidecar,
        worker(valkey, "--http", f"127.0.0.1:{port}", sidecar=sidecar.address) as process,
    ):
        wait_until(lambda: "the worker has started" in process.log)
        camera(valkey, published)
        true_fps = (len(published) - 1) / (published[-1] - published[0])
        received = f"hand_counter_stream_received_total{{{name}}}"
        wait_until(lambda: scrape(port).get(received) == len(published))
        metrics = scrape(port)
        assert metrics[f"hand_counter_stream_source_fps{{{name}}}"] == pytest.approx(true_fps, rel=0.02)
        counts = valkey.bytes.xlen(KEYS.counts)
        wait_until(
            lambda: scrape(port)[f"hand_counter_stream_counted_total{{{name}}}"] == valkey.bytes.xlen(KEYS.counts)
        )
        assert counts == pytest.approx(SECONDS * LIMIT, abs=4)
        skipped = scrape(port)[f'hand_counter_stream_skipped_total{{reason="too_soon",{name}}}']
        assert skipped + valkey.bytes.xlen(KEYS.counts) == len(published)
        assert metrics[f"hand_counter_stream_hands{{{name}}}"] == 1.0
        wait_until(lambda: int(valkey.bytes.hget(KEYS.stream("cam1"), "skipped") or 0) == skipped)
        kept = valkey.bytes.hgetall(KEYS.stream("cam1"))
        assert int(kept[b"counted"]) == valkey.bytes.xlen(KEYS.counts)
        assert float(kept[b"source_fps"]) == pytest.approx(true_fps, rel=0.02)
        assert (kept[b"hand_count"], kept[b"width"], kept[b"last_skip"]) == (b"1", b"1280", b"too_soon")
        preview = valkey.bytes.get(KEYS.preview("cam1"))
        assert cv2.imdecode(np.frombuffer(preview, np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)
        wait_until(lambda: scrape(port)[f"hand_counter_stream_source_fps{{{name}}}"] == 0.0)
        wait_until(lambda: float(valkey.bytes.hget(KEYS.stream("cam1"), "source_fps")) == 0.0)
    valkey.close()
