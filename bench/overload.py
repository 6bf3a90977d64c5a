"""Cameras beyond what the workers can count: how old is what is counted, who gets how much? Draws docs/figures/overload.svg.

    python -m bench.overload                       # about three minutes
    python -m bench.overload --seconds 300         # five minutes each

Everything is real but the model, which takes a fixed time per frame without using the processor, so that the machine hardly
matters: together the workers of each trial count at most 30 frames per second. Publishers don't thin their streams here.

- 12 cameras of 15 fps limited to 7.5, spread evenly: three times as much as can be counted. At the end only one of them goes
  on.
- The same with three workers of 10 frames per second, which share the queue.
- Six cameras of 10 fps and one of 100, all without a limit.
- Five cameras in phase, at 1.5 and at 3 times what can be counted; at 3 times also with three workers.

A round is the time in which each stream that waits at a worker gets a turn: streams ÷ frames that one worker counts per
second. A stream's share is the mean over the streams, since all have the same limit. A deviation of one frame is due to when
the trial ends. Which worker reads which frame is left to chance, so with several workers shares are equal only on
average; they aren't judged in trials of less than a minute.
"""

import argparse
import contextlib
import heapq
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import redis
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, sidecar_process
from support.processes.workers import KEYS, QueueServer, balance, pending, picture, worker

from bench.chart import Axis, Line, line_chart
from bench.servers import resident_bytes
from worker.queue.frame import encode_entry

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "overload.svg"
CAPACITY_FPS = 30.0
WARM_UP_S = 3.0
AFTERWARDS_S = 5.0
FRESH_S = 0.25
SHORTEST_S = 15.0
"""Below it nothing is judged."""
MAX_AGE_S = 10.0
PICTURE = picture() + bytes(20_000)


class Camera(NamedTuple):
    """A camera of the bench."""

    name: str
    fps: float
    phase: float
    """When its first frame comes, in periods."""


class Trial(NamedTuple):
    """What is tried."""

    title: str
    cameras: Sequence[Camera]
    limit: str
    """Of all streams."""
    workers: int = 1
    drops: bool = False
    """Whether the load drops to one camera at the end."""


class Counted(NamedTuple):
    """A result."""

    at: float
    """Seconds since the cameras began."""
    stream_name: str
    age: float
    """Seconds in the queue when its counting began."""


@dataclass
class Outcome:
    """What a trial yields, from the end of the warm-up."""

    results: list[Counted] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Of Redis and of the workers, MiB, twice a second."""
    unsettled: int = 0
    """Entries that were received and have no ending, although no worker holds them any more."""

    def between(self, begin: float, end: float) -> list[Counted]:
        """Returns the results of a part of the trial."""
        return [each for each in self.results if begin <= each.at < end]


def spread(number: int, fps: float) -> list[Camera]:
    """Returns cameras whose frames are spread evenly over a period."""
    return [Camera(f"cam{i}", fps, i / number) for i in range(number)]


def in_phase(number: int, fps: float) -> list[Camera]:
    """Returns cameras whose frames come at the same time."""
    return [Camera(f"cam{i}", fps, 0.0) for i in range(number)]


def frames(cameras: Sequence[Camera]) -> Iterator[tuple[float, str]]:
    """Yields the time of each frame, seconds, and its stream, in order and without end."""
    due = [(camera.phase / camera.fps, number, camera) for number, camera in enumerate(cameras)]
    heapq.heapify(due)
    while True:
        at, number, camera = due[0]
        heapq.heapreplace(due, (at + 1.0 / camera.fps, number, camera))
        yield at, camera.name


def publish(client: redis.Redis, cameras: Sequence[Camera], began: float, end: float, stop: threading.Event) -> None:
    """Publishes frames in real time until so many seconds have passed."""
    pipeline = client.pipeline(transaction=False)
    for number, (at, name) in enumerate(frames(cameras)):
        late = time.monotonic() - began - at
        if late < 0.0:
            pipeline.execute()
            if stop.wait(-late):
                break
        if at >= end:
            break
        key = KEYS.payload(f"{began}:{number}")
        pipeline.set(key, PICTURE, ex=30)
        pipeline.xadd(KEYS.frames, encode_entry(name, time.time(), key), maxlen=2000, approximate=True)
    pipeline.execute()


def collect(client: redis.Redis, began: float, outcome: Outcome, stop: threading.Event) -> None:
    """Notes the results as they come."""
    last = b"0-0"
    while not stop.is_set():
        for _, entries in client.xread({KEYS.counts: last}, block=200) or ():
            for last, fields in entries:  # noqa: B007 (it is used above)
                result = json.loads(fields[b"result"])
                at = time.monotonic() - began
                outcome.results.append(Counted(at, result["stream_name"], result["timings"]["queue_age"]))


def run(trial: Trial, seconds: float) -> Outcome:
    """Runs a trial for so many seconds after the warm-up."""
    outcome, stop = Outcome(), threading.Event()
    end = WARM_UP_S + seconds
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        server = QueueServer(Path(folder))
        stack.callback(server.close)
        server.bytes.hset("stream_fps_configs", "*", trial.limit)
        sidecar = stack.enter_context(sidecar_process(redis_url=server.url, constants=LIMITS_ARE_WAITED_FOR))
        flags = ("--max-age", str(MAX_AGE_S), "--threads", "1", "--unknown-streams", "wait", "--counts-maxlen", "1000")
        workers = [
            stack.enter_context(
                worker(
                    server, *flags, "--consumer", f"w{i}", seconds=trial.workers / CAPACITY_FPS, sidecar=sidecar.address
                )
            )
            for i in range(trial.workers)
        ]
        while not all("the worker has started" in each.log for each in workers):
            time.sleep(0.05)
        began = time.monotonic()
        threads = [threading.Thread(target=collect, args=(server.bytes, began, outcome, stop))]
        threads.append(threading.Thread(target=publish, args=(server.bytes, trial.cameras, began, end, stop)))
        stack.callback(stop.set)
        for thread in threads:
            thread.start()
        while time.monotonic() < began + end:
            time.sleep(0.5)
            redis_mib = server.bytes.info("memory")["used_memory"] / 2**20
            outcome.memory.append((redis_mib, sum(resident_bytes(each.process.pid) for each in workers) / 2**20))
        threads[1].join()
        if trial.drops:
            publish(server.bytes, trial.cameras[:1], time.monotonic(), AFTERWARDS_S, stop)
        stop.set()
        threads[0].join()
        for each in workers:
            assert each.terminate() == 0, each.log
        outcome.unsettled = balance(server.bytes) - pending(server.bytes)
    return outcome


def quantiles(ages: Sequence[float]) -> tuple[float, float]:
    """Returns the median and the 99th percentile."""
    return statistics.median(ages), sorted(ages)[int(0.99 * (len(ages) - 1))]


class Report:
    """Prints figures, and whether they meet their goals unless the trials are too short for that."""

    def __init__(self, seconds: float) -> None:
        self.missed = 0
        self._judges = seconds >= SHORTEST_S
        self.figures: dict[str, float] = {}

    def goal(self, what: str, value: float, most: float, unit: str = "", *, judged: bool = True) -> None:
        """Prints a figure that is to be at most so large."""
        self.figures[what] = round(value, 4)
        if not (judged and self._judges):
            print(f"  {what:62}{value:8.2f}{unit}", flush=True)
            return
        met = value <= most
        self.missed += not met
        print(f"  {what:62}{value:8.2f}{unit} (at most {most:g}{unit}: {'met' if met else 'MISSED'})", flush=True)


def judge_freshness(report: Report, name: str, trial: Trial, outcome: Outcome, seconds: float) -> None:
    """Prints how old the counted frames were."""
    end = WARM_UP_S + seconds
    results = outcome.between(WARM_UP_S, end)
    rate = len(results) / seconds
    round_s = len(trial.cameras) * trial.workers / rate
    p50, p99 = quantiles([each.age for each in results])
    print(f"  {rate:.1f} frames/s counted, a round is {round_s:.2f} s; age p50 {p50:.2f} s, p99 {p99:.2f} s")
    report.goal(f"{name}: age p50, rounds", p50 / round_s, 1.0)
    report.goal(f"{name}: age p99, rounds", p99 / round_s, 2.0)
    thirds = [
        quantiles([each.age for each in outcome.between(b, b + seconds / 3)])[0] for b in (WARM_UP_S, end - seconds / 3)
    ]
    report.goal(f"{name}: age p50, last third less first, rounds", (thirds[1] - thirds[0]) / round_s, 0.2)
    quarter = len(outcome.memory) // 4
    for which, unit in ((0, "Redis"), (1, "workers")):
        begun = statistics.mean(each[which] for each in outcome.memory[quarter : 2 * quarter])
        ended = statistics.mean(each[which] for each in outcome.memory[-quarter:])
        what = f"{name}: memory of {unit} ({ended:.0f} MiB), growth in the second half"
        report.goal(what, ended - begun, 2.0, " MiB")
    old = [each.at - end for each in outcome.results if each.at > end and each.age > FRESH_S]
    report.goal(
        f"{name}: after the load drops, until all is younger than {FRESH_S} s", max(old, default=0.0), 2.0, " s"
    )


def judge_shares(report: Report, name: str, trial: Trial, outcome: Outcome, seconds: float) -> None:
    """Prints how far the worst stream is below, and the best above, the mean, beyond one frame."""
    counts = Counter(each.stream_name for each in outcome.between(WARM_UP_S, WARM_UP_S + seconds))
    mean = counts.total() / len(trial.cameras)
    shares = [counts[camera.name] / mean for camera in trial.cameras]
    print(f"  shares, % of the mean of {mean:.1f} frames: " + ", ".join(f"{share:.1%}" for share in shares))
    worst = max(0.0, max(abs(share - 1.0) for share in shares) - 1.0 / mean)
    judged = trial.workers == 1 or seconds >= 60.0
    report.goal(f"{name}: worst deviation beyond one frame, %", 100 * worst, 2.0, judged=judged)


def first_in_first_out(seconds: float, load: float) -> list[tuple[float, float]]:
    """Returns the age of what a queue without superseding counts: it grows until frames are skipped as stale."""
    return [
        (at, min(MAX_AGE_S, at * (1.0 - 1.0 / load))) for at in (0.1 * step for step in range(int(10 * seconds) + 1))
    ]


def draw(outcome: Outcome, trial: Trial, seconds: float) -> str:
    """Returns the chart of the ages over time."""
    end = WARM_UP_S + seconds + AFTERWARDS_S
    lines = [Line("first in, first out (computed)", first_in_first_out(WARM_UP_S + seconds, 3.0), "7 4")]
    steps = [float(at) for at in range(int(end))]
    parts = [(at + 0.5, [each.age for each in outcome.between(at, at + 1.0)]) for at in steps]
    for name, which in (("p99 of each second", 1), ("median of each second", 0)):
        points = [(at, quantiles(ages)[which]) for at, ages in parts if ages]
        lines.insert(0, Line(name, points, "2 4" if which else ""))
    title = f"{len(trial.cameras)} cameras at three times what can be counted: age of what is counted"
    return line_chart(title, Axis("seconds", end, 5.0 if end < 60 else 30.0), Axis("age, s", MAX_AGE_S, 1.0), lines)


def main() -> int:
    """Runs all trials; prints figures and one line of JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each trial, after a warm-up")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to write the SVG")
    options = parser.parse_args()
    seconds, report = options.seconds, Report(options.seconds)
    overload = Trial("12 cameras limited to 7.5 fps, three times too much", spread(12, 15.0), "7.5", drops=True)
    flood = Trial(
        "6 cameras of 10 fps and one of 100, without limits", [*spread(6, 10.0), Camera("flood", 100.0, 0.0)], "inf"
    )
    for trial in (overload, overload._replace(workers=3)):
        print(f"{trial.title}, {trial.workers} workers")
        outcome = run(trial, seconds)
        judge_freshness(report, f"{trial.workers} workers", trial, outcome, seconds)
        judge_shares(report, f"{trial.workers} workers", trial, outcome, seconds)
        report.goal(f"{trial.workers} workers: entries that aren't settled", abs(outcome.unsettled), 0.0)
        if trial.workers == 1:
            options.figure.parent.mkdir(parents=True, exist_ok=True)
            options.figure.write_text(draw(outcome, trial, seconds))
    print(flood.title)
    judge_shares(report, "a flood beside others", flood, run(flood, seconds), seconds)
    for load, workers in ((1.5, 1), (3.0, 1), (3.0, 3)):
        trial = Trial("", in_phase(5, load * CAPACITY_FPS / 5), "inf", workers)
        print(f"5 cameras in phase, {load:g} times too much, {workers} workers")
        name = f"in phase, {load:g}x, {workers} workers"
        judge_shares(report, name, trial, run(trial, seconds), seconds)
    print(json.dumps({"bench": "overload", "seconds": seconds, **report.figures}))
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
