"""The cost of a decision under a lease, compared with asking Redis; and how soon a raised limit takes effect.

    python -m bench.lease

200 cameras of 30 fps, started at different times and limited to 5. Both sides decide the same frames in the same
process, in turns, over several rounds; the results are medians. The baseline is the first design: one HGET by redis-py per
frame, with the time of the last admitted frame in a dict. The other side is the Python client, which gets the frames in
batches as a worker reads them. Its figures include its calls to the sidecar and its two threads.

The second table: a frame of a stream limited to 5 fps is offered a thousand times per second, and denied under its lease
without a call, until HSET raises the limit to 30. The time is from the HSET to the admission.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.batch import KEY, PerFrame
from bench.servers import cpu_seconds
from handcounter.client import RateLimiter
from handcounter.pacing.schedule import Reason

CAMERA_FPS = 30.0
LIMIT = 5.0
BATCHES = (32, 128, 512)
GOAL_US = 3.0
GOAL_TIMES = 20.0
GOAL_RAISED_MS = 50.0
OFFERED_EVERY_S = 0.001

Frames = list[tuple[str, float]]


class Cost(NamedTuple):
    """Microseconds per frame."""

    wall: float
    own_cpu: float
    """CPU of this process."""
    cpu: float
    """CPU of this process, the sidecar and Valkey."""


def make_frames(seconds: float, streams: int, round_number: int) -> Frames:
    """Returns the frames of the cameras in one stretch of time, in order."""
    choose = random.Random(1)
    frames = []
    for number in range(streams):
        start = 1.7e9 + round_number * seconds + choose.random() / CAMERA_FPS
        frames += [(f"camera-{number:04}", start + i / CAMERA_FPS) for i in range(int(seconds * CAMERA_FPS))]
    return sorted(frames, key=lambda frame: frame[1])


def leased(limiter: RateLimiter, size: int) -> Callable[[Frames], int]:
    """Decides frames with the Python client, in batches of the given size."""

    def decide(frames: Frames) -> int:
        admitted = 0
        for start in range(0, len(frames), size):
            admitted += limiter.decide(frames[start : start + size]).count(Reason.ADMITTED)
        return admitted

    return decide


def measure_raises(client: redis.Redis, limiter: RateLimiter, decided: Counter[str], raises: int) -> list[float]:
    """Returns the milliseconds from HSET to the admission for each raise, sorted."""
    delays = []
    for number in range(raises):
        name, ts = f"raised-{number:04}", 100.0
        frame = [(name, ts + 0.1)]
        assert limiter.decide([(name, ts)]) == [Reason.ADMITTED]
        assert limiter.decide(frame) == [Reason.TOO_SOON]
        decided.clear()
        raised_at = time.perf_counter()
        client.hset(KEY, name, "30")
        while limiter.decide(frame) != [Reason.ADMITTED]:
            time.sleep(OFFERED_EVERY_S)
        delays.append((time.perf_counter() - raised_at) * 1e3)
        assert decided["sidecar"] == 1
    return sorted(delays)


def main() -> None:
    """Prints a table, the delays and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="stretch of stream time per round and side")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--raises", type=int, default=300)
    options = parser.parse_args()
    decided: Counter[str] = Counter()
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=LIMIT) as sidecar,
    ):
        client.hset(KEY, mapping={f"camera-{number:04}": "5" for number in range(0, options.streams, 2)})
        limiter = RateLimiter(
            sidecar.address,
            default_fps=1.0,
            deadline=10.0,
            on_decided=lambda by, frames: decided.update({by: frames}),
        )
        assert limiter.wait_ready(10.0)
        sides: dict[str, Callable[[Frames], int]] = {"HGET per frame": PerFrame(client, LIMIT).decide}
        sides.update({f"leases, batches of {size}": leased(limiter, size) for size in BATCHES})
        pids = (os.getpid(), sidecar.pid, server.pid)
        costs: dict[str, list[Cost]] = {side: [] for side in sides}
        expected = options.streams * options.seconds * LIMIT
        for number in range(options.rounds + 1):
            for place, (side, decide) in enumerate(sides.items()):
                # Each side has its own stretch of stream time, so that its frames are new to everybody.
                frames = make_frames(options.seconds, options.streams, number * len(sides) + place)
                cpu, own_cpu, wall = sum(map(cpu_seconds, pids)), time.process_time(), time.perf_counter()
                admitted = decide(frames)
                wall, own_cpu = time.perf_counter() - wall, time.process_time() - own_cpu
                cpu = sum(map(cpu_seconds, pids)) - cpu
                assert 0.9 * expected <= admitted <= expected + 2.5 * options.streams, (side, admitted, expected)
                if number:
                    costs[side].append(Cost(*(each / len(frames) * 1e6 for each in (wall, own_cpu, cpu))))
        by_lease = decided["lease"] / (decided["lease"] + decided["sidecar"])
        assert not decided["local"]
        raises = measure_raises(client, limiter, decided, options.raises)
        limiter.close()
    medians = {side: Cost(*map(statistics.median, zip(*each, strict=True))) for side, each in costs.items()}
    print(f"{options.streams} streams of {CAMERA_FPS:g} fps limited to {LIMIT:g}, {options.seconds:g} s per round,")
    print(f"median of {options.rounds} rounds; {by_lease:.1%} of the frames were denied by a lease")
    print(f"{'µs per frame':26}{'wall':>8}{'worker CPU':>12}{'all CPU':>10}{'times cheaper':>16}")
    measure = medians["HGET per frame"].wall
    for side, cost in medians.items():
        print(f"{side:26}{cost.wall:8.2f}{cost.own_cpu:12.2f}{cost.cpu:10.2f}{measure / cost.wall:16.1f}")
    best = medians[f"leases, batches of {BATCHES[-1]}"]
    cheap = best.wall <= GOAL_US and measure / best.wall >= GOAL_TIMES
    print(f"goal: at most {GOAL_US:g} µs, {GOAL_TIMES:g} times cheaper: {'met' if cheap else 'MISSED'}")
    p50, p99 = statistics.median(raises), raises[int(len(raises) * 0.99)]
    print(f"raised limit acts after: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {raises[-1]:.1f} ms")
    print(f"goal: p99 at most {GOAL_RAISED_MS:g} ms: {'met' if p99 <= GOAL_RAISED_MS else 'MISSED'}")
    figures = {side: cost._asdict() for side, cost in medians.items()}
    print(json.dumps({"bench": "lease", **figures, "by_lease": by_lease, "raised_ms": {"p50": p50, "p99": p99}}))


if __name__ == "__main__":
    main()
