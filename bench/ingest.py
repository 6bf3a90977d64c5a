"""What many cameras in one process need: ``hand-counter ingest`` with RTSP cameras that are limited to 1 fps.

    python -m bench.ingest

A server on this machine is that many RTSP cameras: each has a connection of its own with H.264 over TCP in real time and with
sender reports, at one of ten places in the same film. A real Valkey takes the frames, and a server that tells every camera the
same limit stands for the sidecar. Printed are the threads, the memory and the CPU of the process, for each number of cameras;
memory also at most since the start, when all cameras are opened. The pictures are noisy, a key frame comes every second.

Where this machine can't send or receive so much in real time, the figures say so: `behind` is the share of the frames that the
cameras would have had by now and that haven't arrived.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from support.processes.ports import free_port
from support.processes.programs import repository_environment
from support.redis.valkey import valkey
from support.waiting import wait_until

from bench.servers import cpu_seconds, resident_bytes
from worker.queue.keys import Keys

GOAL_BYTES = 1.2e9
"""For a hundred cameras."""
GOAL_STOP_S = 1.0

SERVER = """
import sys, time
from pathlib import Path
from handcounter.client.testing import FakeSidecar
from support.rtsp_cameras import RtspCameras
film, fps, cameras, limit = sys.argv[1:]
with FakeSidecar(fps={f"cam{number}": float(limit) for number in range(int(cameras))}) as sidecar:
    server = RtspCameras(Path(film), float(fps), phases=10)
    print(server.port, sidecar.address, flush=True)
    sys.stdin.read()
"""


class Cost(NamedTuple):
    """What one number of cameras needs."""

    cameras: int
    working: int
    threads: int
    rss: int
    """Resident bytes."""
    most: int
    """The same, at most since the start."""
    cpu: float
    """Processors."""
    published: float
    """Frames per second."""
    behind: float
    """Share of the frames that haven't arrived."""
    stop: float
    """Seconds from SIGTERM to the end."""


def film(path: Path, height: int, fps: int) -> Path:
    """Writes a film of two seconds that a cheap camera might send: one reference, no B frames."""
    width = height * 16 // 9 // 2 * 2
    chance = np.random.default_rng(1)
    ground = np.linspace(40, 200, width)[None, :, None] + chance.normal(0, 6, (height, width, 3))
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "g": str(fps), "refs": "1", "crf": "28"}
        for index in range(2 * fps):
            picture = np.clip(ground, 0, 255).astype(np.uint8)
            at = index * width // (3 * fps)
            picture[height // 3 : height // 2, at : at + width // 8] = (30, 200, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


@contextmanager
def server_of(path: Path, cameras: int, fps: float, limit: float) -> Iterator[tuple[int, str]]:
    """Runs the cameras in a process of their own; yields their port, and the address that tells limits."""
    words = [sys.executable, "-c", SERVER, str(path), str(fps), str(cameras), str(limit)]
    paths = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        words,
        env=repository_environment({"PYTHONPATH": paths}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        port, address = process.stdout.readline().split()
        yield int(port), address
    finally:
        process.kill()
        process.wait()


def most_bytes(pid: int) -> int:
    """Returns the most resident memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def measure(path: Path, cameras: int, options: argparse.Namespace) -> Cost:
    """Runs one number of cameras."""
    with (
        tempfile.TemporaryDirectory() as folder,
        valkey() as redis,
        redis.client() as client,
        server_of(path, cameras, options.fps, options.limit) as (port, sidecar),
    ):
        listing = Path(folder) / "cameras.yaml"
        entries = [f'- {{name: cam{number}, source: "rtsp://127.0.0.1:{port}/{number}"}}' for number in range(cameras)]
        listing.write_text("cameras:\n" + "\n".join(entries))
        http = f"127.0.0.1:{free_port()}"
        words = [sys.executable, "-m", "worker", "ingest", str(listing), "--redis-url", redis.url, "--http", http]
        words += ["--sidecar", sidecar, "--payload-ttl", "5", "--log-level", "error"]
        process = subprocess.Popen(words, env=repository_environment({"PYTHONPATH": os.pathsep.join(sys.path)}))
        try:

            def arrived() -> list[int]:
                names = [Keys().camera(f"cam{number}") for number in range(cameras)]
                found = [client.hget(name, "arrived") for name in names]
                return [int(each or 0) for each in found]

            wait_until(lambda: sum(each > 0 for each in arrived()) == cameras, "all cameras work", 300.0, 0.5)
            time.sleep(options.settle)
            begun, cpu, before = time.monotonic(), cpu_seconds(process.pid), sum(arrived())
            entries_before = int(client.xinfo_stream(Keys().frames)["entries-added"])
            time.sleep(options.seconds)
            took = time.monotonic() - begun
            published = int(client.xinfo_stream(Keys().frames)["entries-added"]) - entries_before
            states = [client.hget(Keys().camera(f"cam{number}"), "state") for number in range(cameras)]
            figures = (
                len(list(Path(f"/proc/{process.pid}/task").iterdir())),
                resident_bytes(process.pid),
                most_bytes(process.pid),
                (cpu_seconds(process.pid) - cpu) / took,
                published / took,
                max(0.0, 1 - (sum(arrived()) - before) / (took * options.fps * cameras)),
            )
            stopping = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(60.0)
            working = sum(state == "working" for state in states)
            return Cost(cameras, working, *figures, stop=time.monotonic() - stopping)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 10, 50, 100])
    parser.add_argument("--height", type=int, default=720, help="lines of a picture")
    parser.add_argument("--fps", type=int, default=25, help="frames per second of each camera; a key frame each second")
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--settle", type=float, default=10.0, help="seconds after the last camera was opened")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        path = film(Path(folder) / "film.ts", options.height, options.fps)
        rate = path.stat().st_size * 8 / 2 / 1e6
        costs = [measure(path, cameras, options) for cameras in options.cameras]
    print(
        f"{options.height}p, {options.fps} fps, {rate:.1f} Mbit/s, limit {options.limit:g} fps; {os.cpu_count()} processors"
    )
    heads = ("cameras", "working", "threads", "MB", "MB at most", "CPU", "published/s", "behind", "stop s")
    print("".join(f"{head:>12}" for head in heads))
    for cost in costs:
        cells = [cost.cameras, cost.working, cost.threads, f"{cost.rss / 1e6:.0f}", f"{cost.most / 1e6:.0f}"]
        cells += [f"{cost.cpu:.2f}", f"{cost.published:.1f}", f"{cost.behind:.0%}", f"{cost.stop:.2f}"]
        print("".join(f"{cell:>12}" for cell in cells))
    last = costs[-1]
    print(f"goal: {GOAL_BYTES / 1e6:.0f} MB for 100 cameras, at most: ", end="")
    print("not measured" if last.cameras < 100 else "met" if last.most <= GOAL_BYTES else "MISSED")
    print(f"goal: an end within {GOAL_STOP_S:g} s: {'met' if max(c.stop for c in costs) <= GOAL_STOP_S else 'MISSED'}")
    print(json.dumps({"bench": "ingest", "height": options.height, "costs": [cost._asdict() for cost in costs]}))


if __name__ == "__main__":
    main()
