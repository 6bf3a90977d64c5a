"""What one camera more costs: 100, 1,000 and 10,000 cameras, each limited to 1 fps, at a real Redis, sidecar and worker.

    python -m bench.fleet_of_cameras                     # one Valkey; about ten minutes
    python -m bench.fleet_of_cameras --cluster           # a cluster of three nodes, with 12 partitions

Frames are as small as they can be (a JPEG of 64x48), the model takes no time, and the cameras' clocks run faster than real
time, as fast as the machine counts: it has to do for ten thousand cameras what takes several machines in real time. So what
is printed is what a frame or a camera costs, not how soon it is counted. Each camera delivers --source-fps frames per second of
its own clock. With thinning the generator leaves out what isn't due, by the limits that the sidecar tells it of all cameras;
without it everything is published.

Per camera and second of its clock: CPU of the sidecar. Per counted frame: CPU of Redis (all nodes) and of the worker. Per
camera: how much more memory the sidecar, the worker and Redis have at the end than before the first camera; that includes
buffers and the last 10,000 results, which don't grow with the cameras. The goal is the growth of each from the fewest cameras
to the most: at most 1.2 times. The sidecar's share depends on how many frames the worker asks about at once (batch): few, if
the generator is slower than the worker.

What the three take without any frame is measured first (idle): it belongs to the seconds that a trial lasts, and not to its
frames. The growth is printed with it and without it.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from support.partitioned import PartitionedFrames
from support.processes import programs
from support.processes.sidecars import sidecar_process
from support.processes.workers import T0, picture
from support.redis.topologies import cluster
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from bench.servers import cpu_seconds, resident_bytes
from handcounter.client import LimitsWatch
from handcounter.pacing.schedule import Pacing, Schedule, decide
from handcounter.pacing.times import RealTime, StreamTime
from worker.publish.frame_writer import FULL, FrameWriter, NumberedFrame, StreamFrames
from worker.publish.source import Captured
from worker.publish.thinner import Thinner

GOAL = 1.2
PARTS = ("Redis", "worker", "sidecar")
LIMIT_FPS = 1.0
BATCH = 64
MAX_QUEUE = 20_000
WAIT_S = 0.05
"""Between two attempts while the queue is full. Each costs Redis a picture: at 5 ms they were a fifth of its CPU."""
DEADLINE_S = 1800.0


class Cost(NamedTuple):
    """What was measured of so many cameras."""

    redis_us: float
    """CPU per counted frame, microseconds; so is the worker's."""
    worker_us: float
    sidecar_us: float
    """CPU per camera and second of its clock, microseconds."""
    sidecar_kb: float
    """Memory per camera; so are the next two."""
    worker_kb: float
    redis_kb: float
    batch: float
    """Frames in a request to the sidecar, on average."""
    published: int
    counted: int
    idle: tuple[float, float, float]
    """CPU of Redis, the worker and the sidecar without frames, microseconds per second."""
    net: tuple[float, float, float]
    """As the first three, without what they would have taken in that time without frames."""


class Cameras:
    """The cameras of a trial, whose frames one generator writes."""

    def __init__(
        self,
        names: Sequence[str],
        source_fps: float,
        frames: PartitionedFrames,
        watch: LimitsWatch | None,
        picture_bytes: int,
        pace: float = 0.0,
    ) -> None:
        self.names = names
        self._step_s = pace / source_fps
        self._source_fps = source_fps
        self._writer = FrameWriter()
        jpeg = picture()
        self._picture = jpeg + bytes(max(0, picture_bytes - len(jpeg)))
        clients = {keys: frames.client(keys) for keys in frames.partitions}
        self._streams = [
            StreamFrames(clients[keys], keys, name, payload_ttl=600.0, max_queue=MAX_QUEUE, waits=True, live=False)
            for name in self.names
            for keys in [frames.partitions.keys_of(name)]
        ]
        self._thinners = [Thinner(watch, name, time.monotonic) for name in self.names] if watch else []
        self._schedules: dict[str, Schedule | None] = {}
        self.published = 0
        self._step = 0

    def run(self, steps: int) -> int:
        """Publishes so many frames of each camera, less those that aren't due; returns how many of them will be admitted."""
        admitted = 0
        waiting: list[NumberedFrame] = []
        schedules = self._schedules
        begun = time.monotonic()
        for step in range(self._step, self._step + steps):
            time.sleep(max(0.0, begun + (step - self._step) * self._step_s - time.monotonic()))
            for index, name in enumerate(self.names):
                ts = T0 + (step + index / len(self.names)) / self._source_fps
                decision = decide(schedules.get(name), StreamTime(ts), LIMIT_FPS, RealTime(0.0), Pacing.GCRA)
                schedules[name] = decision.schedule
                admitted += decision.admitted
                if self._thinners:
                    if not self._thinners[index].is_due(ts):
                        continue
                    self._thinners[index].taken(ts)
                waiting.append(self._streams[index].next(Captured(ts, self._picture)))
                # A batch has at most one frame of each stream, since a frame has to be written before the next one.
                if len(waiting) >= min(BATCH, len(self.names)):
                    self._write(waiting)
        self._write(waiting)
        self._step += steps
        return admitted

    def _write(self, frames: list[NumberedFrame]) -> None:
        while frames:
            replies = self._writer.write(frames)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            full = [frame for frame, reply in zip(frames, replies, strict=True) if reply == FULL]
            self.published += len(frames) - len(full)
            frames[:] = full
            if full:
                time.sleep(WAIT_S)


@contextlib.contextmanager
def redis_servers(is_cluster: bool) -> Iterator[tuple[str, Sequence[Valkey], int]]:
    """Runs Redis; yields its URL, its servers and the number of partitions."""
    if is_cluster:
        with cluster() as nodes:
            yield nodes.url, nodes.nodes, 12
    else:
        with valkey() as server:
            yield server.url, [server], 1


def measure(
    number: int,
    seconds: int,
    source_fps: float,
    picture_bytes: int,
    *,
    thins: bool,
    is_cluster: bool,
    idle_seconds: float = 5.0,
    pace: float = 0.0,
) -> Cost:
    """Runs so many cameras for so many seconds of their clocks, after so many seconds without frames.

    A second of their clocks takes at least ``pace`` seconds.
    """
    with contextlib.ExitStack() as stack:
        url, servers, partitions = stack.enter_context(redis_servers(is_cluster))
        flags = ("--max-streams", str(2 * number + 100), "--metrics-streams", "0")
        sidecar = stack.enter_context(sidecar_process(*flags, redis_url=url, fps=LIMIT_FPS, fresh=True))
        where = ("--redis-url", url, "--partitions", str(partitions))
        counting = ("--sidecar", sidecar.address, "--sidecar-wait", "60", "--decision-timeout", "60", "--http", "")
        worker = programs.start(
            "support.processes.worker_main",
            *("0", *where, *counting, "--max-age", "inf", "--no-previews", "--metrics-streams", "0"),
            output=subprocess.DEVNULL,
        )
        stack.callback(programs.end, worker)
        frames = PartitionedFrames(url, partitions)
        stack.callback(frames.close)
        watch = stack.enter_context(LimitsWatch(sidecar.address)) if thins else None

        def counted() -> int:
            return frames.accounting()["counted"]

        def memory() -> tuple[int, int, int]:
            redis = sum(resident_bytes(server.pid) for server in servers)
            return resident_bytes(sidecar.pid), resident_bytes(worker.pid), redis

        def cpu() -> tuple[float, float, float]:
            return sum(cpu_seconds(server.pid) for server in servers), cpu_seconds(worker.pid), cpu_seconds(sidecar.pid)

        # The first camera makes the processes allocate what they need once.
        first = Cameras(["first"], source_fps, frames, None, picture_bytes)
        expected = first.run(60)
        wait_until(lambda: counted() >= expected, "the first frames are counted", DEADLINE_S)
        empty = memory()
        idle_before, idle_at = cpu(), time.monotonic()
        time.sleep(idle_seconds)
        idle_s = time.monotonic() - idle_at
        idle = [(after - then) / idle_s for after, then in zip(cpu(), idle_before, strict=True)]
        names = [f"camera-{index:05}" for index in range(number)]
        cameras = Cameras(names, source_fps, frames, watch, picture_bytes, pace)
        if watch:
            for name in cameras.names:
                watch.watch(name, source_fps)
            if not watch.wait_told(DEADLINE_S):
                raise RuntimeError("the limits weren't told")
        expected += cameras.run(round(source_fps))  # each camera is known before the clock starts
        wait_until(lambda: counted() >= expected, "the warm-up is counted", DEADLINE_S)

        def asked() -> tuple[float, float]:
            with urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=60) as response:
                lines = dict(line.rpartition(" ")[::2] for line in response.read().decode().splitlines())
            return float(lines["sidecar_batch_frames_sum"]), float(lines["sidecar_batch_frames_count"])

        requests = asked()
        before, begun, published, begun_at = cpu(), counted(), cameras.published, time.monotonic()
        expected += cameras.run(round(seconds * source_fps))
        wait_until(lambda: counted() >= expected, "all frames are counted", DEADLINE_S)
        done, real_s = counted() - begun, time.monotonic() - begun_at
        spent = [after - then for after, then in zip(cpu(), before, strict=True)]
        frames_asked, calls = (after - then for after, then in zip(asked(), requests, strict=True))
        grown = [(after - then) / number / 1e3 for after, then in zip(memory(), empty, strict=True)]

        def per_unit(used: Sequence[float]) -> tuple[float, float, float]:
            return used[0] / done * 1e6, used[1] / done * 1e6, used[2] / number / seconds * 1e6

        return Cost(
            *per_unit(spent),
            *grown,
            frames_asked / max(calls, 1.0),
            cameras.published - published,
            done,
            (idle[0] * 1e6, idle[1] * 1e6, idle[2] * 1e6),
            per_unit([used - each * real_s for used, each in zip(spent, idle, strict=True)]),
        )


def growth(few: Sequence[float], many: Sequence[float]) -> dict[str, float]:
    """Returns how many times as much each part takes for many cameras."""
    return {name: after / max(before, 1e-9) for name, before, after in zip(PARTS, few, many, strict=True)}


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument(
        "--frames", type=int, default=20_000, help="counted in each trial, at least three of each camera"
    )
    parser.add_argument("--source-fps", type=float, default=2.0)
    parser.add_argument(
        "--picture-bytes", type=int, default=0, help="bytes of a picture, at least those of the smallest"
    )
    parser.add_argument("--idle-seconds", type=float, default=5.0, help="before each trial")
    parser.add_argument(
        "--pace", type=float, default=0.0, help="real seconds that a second of the cameras takes at least; 1: real time"
    )
    parser.add_argument("--cluster", action="store_true", help="three nodes and 12 partitions instead of one server")
    options = parser.parse_args()
    costs: dict[bool, dict[int, Cost]] = {True: {}, False: {}}
    for number in options.cameras:
        seconds = max(3, options.frames // number)
        for thins in (True, False):
            costs[thins][number] = measure(
                number,
                seconds,
                options.source_fps,
                options.picture_bytes,
                thins=thins,
                is_cluster=options.cluster,
                idle_seconds=options.idle_seconds,
                pace=options.pace,
            )
            print(
                f"{number} cameras, {seconds} s, thinning {thins}: {costs[thins][number]}", file=sys.stderr, flush=True
            )
    where = "a cluster of three nodes, 12 partitions" if options.cluster else "one Valkey"
    print(f"{options.source_fps:g} fps limited to {LIMIT_FPS:g}; {where}; {os.cpu_count()} processors")
    heads = ("cameras", "thins", "Redis µs", "worker µs", "sidecar µs", "sidecar KB", "worker KB", "Redis KB", "batch")
    print("".join(f"{head:>12}" for head in heads))
    for number in options.cameras:
        for thins in (True, False):
            cost = costs[thins][number]
            cells = [f"{number:,}", "yes" if thins else "no", *(f"{value:.1f}" for value in cost[:7])]
            print("".join(f"{cell:>12}" for cell in cells))
    floors = [cost.idle for by_number in costs.values() for cost in by_number.values()]
    figures = ", ".join(
        f"{name} {statistics.median(each) / 1e6:.4f}"
        for name, each in zip(PARTS, zip(*floors, strict=True), strict=True)
    )
    print(f"without frames they take, processors: {figures}")
    fewest, most = min(options.cameras), max(options.cameras)
    growths = {}
    for thins, by_number in costs.items():
        few, many = by_number[fewest], by_number[most]
        whole = growth(few[: len(PARTS)], many[: len(PARTS)])
        net = growth(few.net, many.net)
        growths["thinning" if thins else "everything"] = {"whole": whole, "net": net}
        for way, grown in (("", whole), (", less what they take without frames", net)):
            figures = ", ".join(f"{name} {times:.2f}" for name, times in grown.items())
            kept = all(times <= GOAL for times in grown.values())
            print(
                f"growth of the CPU from {fewest:,} to {most:,} cameras, "
                f"{'thinning' if thins else 'everything published'}{way}: {figures}; "
                f"goal {GOAL:g}: {'met' if kept else 'MISSED'}"
            )
    rows = {f"{number} {thins}": cost._asdict() for thins, each in costs.items() for number, cost in each.items()}
    print(json.dumps({"bench": "fleet_of_cameras", "cluster": options.cluster, "growth": growths, **rows}))


if __name__ == "__main__":
    main()
