"""What thinning at the source saves: the same camera with ``publish --sidecar`` and without.

    python -m bench.thinning

For each limit and each variant a real Valkey, sidecar, worker (with a detector that takes no time) and publisher of their own
run side by side, in real time. The camera is a film of 30 fps, 1280x720, H.264, with noise, so that its pictures are as large
as those of a real one. Printed are the bytes that Valkey received from all, CPU and resident memory of each process, and the
frames that were counted, which have to be as many.
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from support.processes import programs
from support.processes.sidecars import sidecar_process
from support.processes.workers import KEYS
from support.redis.valkey import valkey
from support.waiting import wait_until

from bench.servers import cpu_seconds, resident_bytes

SOURCE_FPS = 30
LIMITS = (1.0, 5.0, 30.0)
GOAL_TIMES = 25.0
"""Fewer bytes into Redis at the lowest limit."""
GOAL_COST = 1.1
"""How much more may be spent if nothing is left out."""
SETTLES_S = 3.0


class Cost(NamedTuple):
    """What a second of the camera costs."""

    bytes_in: float
    """Bytes that Valkey received."""
    redis_cpu: float
    """CPU seconds, as in the next two."""
    publisher_cpu: float
    worker_cpu: float
    publisher_bytes: int
    """Resident memory, as in the next two."""
    worker_bytes: int
    redis_bytes: int
    published: float
    """Frames that came into Redis."""
    counted: float
    """Frames that were counted."""


def film(path: Path, seconds: int = 10) -> Path:
    """Writes a film of moving noise over a gradient."""
    chance = np.random.default_rng(1)
    height, width = 720, 1280
    gradient = np.linspace(40, 200, width, dtype=np.float32)[None, :, None].repeat(height, 0).repeat(3, 2)
    noise = chance.normal(0.0, 12.0, (height, width, 3)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=SOURCE_FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, SOURCE_FPS)
        stream.options = {"preset": "ultrafast", "g": "50", "crf": "23"}
        for index in range(seconds * SOURCE_FPS):
            picture = np.clip(gradient + np.roll(noise, 5 * index, 1), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


@contextlib.contextmanager
def process(module: str, *flags: str) -> Iterator[int]:
    """Runs a program without its output; yields its process id."""
    running = programs.start(module, *flags, output=subprocess.DEVNULL)
    try:
        yield running.pid
    finally:
        programs.end(running)


def measure(source: Path, limit: float, thins: bool, seconds: float) -> Cost:
    """Runs one variant."""
    with valkey() as server, server.client() as client:
        client.hset("stream_fps_configs", "*", repr(limit))
        with sidecar_process(redis_url=server.url, fresh=True) as sidecar:
            where = ("--redis-url", server.url)
            counts = ("--sidecar", sidecar.address, "--http", "", "--max-age", "inf", "--no-previews")
            named = ("--stream-name", "cam1", "--loop", "--payload-ttl", "10")
            thinning = ("--sidecar", sidecar.address) if thins else ()
            with (
                process("support.processes.worker_main", "0", *where, *counts) as worker,
                process("worker", "publish", str(source), *where, *named, *thinning) as publisher,
            ):

                def counted() -> int:
                    return int(client.hget(KEYS.accounting, "counted") or 0)

                wait_until(lambda: counted() > 0, "the first frame is counted")
                time.sleep(SETTLES_S)
                pids = {"redis": server.pid, "publisher": publisher, "worker": worker}

                def now() -> tuple[float, int, dict[str, float], int, int]:
                    received = int(client.info("stats")["total_net_input_bytes"])
                    cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
                    published = int(client.xinfo_stream(KEYS.frames)["entries-added"])
                    return time.monotonic(), received, cpu, published, counted()

                begun, before, cpu, entries, frames = now()
                time.sleep(seconds)
                ended, after, cpu_after, entries_after, frames_after = now()
                took = ended - begun
                return Cost(
                    (after - before) / took,
                    *((cpu_after[name] - cpu[name]) / took for name in pids),
                    *(resident_bytes(pids[name]) for name in ("publisher", "worker", "redis")),
                    (entries_after - entries) / took,
                    (frames_after - frames) / took,
                )


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--limits", type=float, nargs="+", default=LIMITS, help="the highest is no limit for the camera"
    )
    options = parser.parse_args()
    costs: dict[float, dict[bool, Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-thinning-") as folder:
        source = film(Path(folder) / "film.mp4")
        for limit in options.limits:
            costs[limit] = {thins: measure(source, limit, thins, options.seconds) for thins in (False, True)}
    print(f"one camera of {SOURCE_FPS} fps; {os.cpu_count()} processors; per second of the camera")
    heads = (
        "limit",
        "thins",
        "KB in",
        "Redis ms",
        "publisher ms",
        "worker ms",
        "publisher MB",
        "worker MB",
        "Redis MB",
    )
    print("".join(f"{head:>13}" for head in (*heads, "published", "counted")))
    for limit, both in costs.items():
        for thins, cost in both.items():
            cells = [f"{limit:g}", "yes" if thins else "no", f"{cost.bytes_in / 1e3:.0f}"]
            cells += [f"{1e3 * each:.1f}" for each in (cost.redis_cpu, cost.publisher_cpu, cost.worker_cpu)]
            cells += [f"{each / 1e6:.0f}" for each in (cost.publisher_bytes, cost.worker_bytes, cost.redis_bytes)]
            print("".join(f"{cell:>13}" for cell in (*cells, f"{cost.published:.1f}", f"{cost.counted:.1f}")))
    low, high = min(options.limits), max(options.limits)
    times = {limit: both[False].bytes_in / both[True].bytes_in for limit, both in costs.items() if limit < high}
    print("bytes into Redis, times fewer: " + ", ".join(f"{limit:g} fps {ratio:.1f}" for limit, ratio in times.items()))
    # By frame: on a machine that is too busy, a film is read more slowly than it plays.
    everything, thinned = costs[high][False], costs[high][True]
    more = {
        "bytes": (thinned.bytes_in / thinned.published) / (everything.bytes_in / everything.published),
        "publisher's CPU": (thinned.publisher_cpu / thinned.published)
        / (everything.publisher_cpu / everything.published),
    }
    print(
        f"at {high:g} fps, thinning / not, by frame: "
        + ", ".join(f"{what} {ratio:.2f}" for what, ratio in more.items())
    )
    print(
        f"goal: at {low:g} fps at least {GOAL_TIMES:g} times fewer bytes: "
        f"{'met' if times[low] >= GOAL_TIMES else 'MISSED'}"
    )
    print(
        f"goal: at {high:g} fps no cost ({GOAL_COST:g} times at most): "
        f"{'met' if max(more.values()) <= GOAL_COST else 'MISSED'}"
    )
    rows = {f"{limit:g} {thins}": cost._asdict() for limit, both in costs.items() for thins, cost in both.items()}
    print(json.dumps({"bench": "thinning", **rows}))


if __name__ == "__main__":
    main()
