"""What a pod with one GPU can count, by processors, processes and hands: a model of the worker's stages.

    python -m bench.gpu_pod                     the sizing table of docs/hamer.md, and what k8s/components/gpu sets
    python -m bench.gpu_pod --gpu L4 --hands 2 --cores 4 8

Nothing of it is a measurement of a whole pod. Measured on a CPU: decoding, and what holds the interpreter's lock. Estimated:
all times of the GPU; bench.on_gpu measures them where there is one, and --crop-ms and --detect-ms take what it prints. There
are always enough frames, of 1280x720 pixels.
"""

import argparse
import heapq
import itertools
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench.hamer import NOMINAL
from bench.hamer_reference import flops_per_crop
from worker.hamer.batcher import IN_FLIGHT, plan_batches
from worker.hamer.detector import WITH_HAMER
from worker.hamer.engine import BUCKETS
from worker.hamer.sizes import VIT_H
from worker.hands.device.engine import AT_ONCE

DECODE_MS = 3.5
"""Measured: 2.1 to 4.7 for a JPEG of 720p (bench.detector), and its copy with the pyramid. Without the interpreter's lock."""
RULES_MS = 0.97
"""Measured (bench.interpreter_lock, `balanced`, simulated people): the search's rules and the result, with the lock."""
REFINE_MS = 0.4
"""Measured: HaMeR's own 0.36 for two hands (cameras, verdicts, JSON), with the lock."""
WORKER_MS = 0.45
"""Measured (docs/scale.md): the queue, the scheduler, the settling and the metrics, with the lock."""
LAUNCH_MS = 0.4
"""Estimated: some thirty calls of torch that start a frame's crops and its part of the batches, with the lock."""
SHARE_OF_PEAK = 0.42
"""Estimated: of the data sheet's 16-bit peak, what the backbone reaches in large batches. The goal is 0.4."""
FLOAT32 = {"H100": 67.0, "A100": 19.5, "L40S": 91.6, "L4": 30.3}
"""TFLOP/s according to the data sheets, by which the detector's time on other devices is estimated from the H100's."""
DETECT_MS_H100 = 0.5
"""Estimated: the detector in float32 for one frame at `balanced`, in large batches: 0.4 to 0.6."""
IN_PROGRESS = AT_ONCE + WITH_HAMER
"""Frames that a process has in progress at most."""
ENOUGH = 0.95
"""A pod is as large as need be if it counts this share of what any number of processors would."""


@dataclass(frozen=True)
class Pod:
    """A pod and its frames."""

    crop_ms: float
    """Of the GPU, for a crop in a large batch."""
    detect_ms: float
    """Of the GPU, for a frame in a large batch."""
    cores: int
    processes: int
    hands: int

    def refine_batch_ms(self, crops: int) -> float:
        """Returns how long HaMeR takes for a batch: small ones wait for the weights to be read, others are padded."""
        sizes = plan_batches(crops, BUCKETS, BUCKETS[-1])
        buckets = [next(bucket for bucket in BUCKETS if bucket >= size) for size in sizes]
        return sum(max(1.3, 0.65 + self.crop_ms * bucket) for bucket in buckets)

    def detect_batch_ms(self, frames: int) -> float:
        """Returns how long the detector takes for a batch."""
        return 0.6 + self.detect_ms * frames


@dataclass(frozen=True)
class Counted:
    """What a pod reaches."""

    fps: float
    gpu: float
    """Share of the time in which the GPU computes."""
    cpu: float
    """The same of the processors."""
    lock: float
    """The same of the interpreters' locks."""
    crops_per_batch: float

    @property
    def limit(self) -> str:
        """What there is too little of."""
        return max((self.gpu, "GPU"), (self.cpu, "processors"), (self.lock, "interpreter lock"))[1]


@dataclass
class _Simulation:
    """Events in time; the processors, which any work may use."""

    cores: int
    now: float = 0.0
    busy_cores: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _ready: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)

    def at(self, delay: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), then))

    def compute(self, ms: float, then: Callable[[], None]) -> None:
        """Runs something on a processor, when one is free."""
        self._ready.append((ms, then))
        self._dispatch()

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()

    def _dispatch(self) -> None:
        while self.cores and self._ready:
            ms, then = self._ready.popleft()
            self.cores -= 1
            self.busy_cores += ms
            self.at(ms, lambda then=then: self._done(then))  # type: ignore[misc]

    def _done(self, then: Callable[[], None]) -> None:
        self.cores += 1
        then()
        self._dispatch()


class _Lock:
    """One interpreter's lock: whoever computes with it needs a processor, too."""

    def __init__(self, simulation: _Simulation) -> None:
        self._simulation = simulation
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._held = False
        self.busy = 0.0

    def compute(self, ms: float, then: Callable[[], None]) -> None:
        self._waiting.append((ms, then))
        self._next()

    def _next(self) -> None:
        if self._held or not self._waiting:
            return
        ms, then = self._waiting.popleft()
        self._held = True
        self.busy += ms

        def done() -> None:
            self._held = False
            then()
            self._next()

        self._simulation.compute(ms, done)


class _Gpu:
    """Computes one batch after the other."""

    def __init__(self, simulation: _Simulation) -> None:
        self._simulation = simulation
        self._free_at = 0.0
        self.busy = 0.0

    def compute(self, ms: float, then: Callable[[], None]) -> None:
        self._free_at = max(self._free_at, self._simulation.now) + ms
        self.busy += ms
        self._simulation.at(self._free_at - self._simulation.now, then)


class _Batches:
    """Takes all that waits, when fewer than two batches are in flight."""

    def __init__(self, gpu: _Gpu, ms: Callable[[int], float], weight: int, most: int) -> None:
        self._gpu, self._ms, self._weight, self._most = gpu, ms, weight, max(1, most // weight)
        self._waiting: deque[Callable[[], None]] = deque()
        self._in_flight = 0
        self.batches = self.items = 0

    def add(self, then: Callable[[], None]) -> None:
        self._waiting.append(then)
        self._launch()

    def _launch(self) -> None:
        while self._in_flight < IN_FLIGHT and self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            self._in_flight += 1
            self.batches += 1
            self.items += len(taken) * self._weight

            def done(taken: list[Callable[[], None]] = taken) -> None:
                self._in_flight -= 1
                for then in taken:
                    then()
                self._launch()

            self._gpu.compute(self._ms(len(taken) * self._weight), done)


def simulate(pod: Pod, seconds: float = 10.0) -> Counted:
    """Runs a pod whose frames always wait; returns what it reaches after the first second."""
    simulation = _Simulation(pod.cores)
    gpu = _Gpu(simulation)
    locks, refining = [], []
    frames = 0

    def process() -> None:
        lock = _Lock(simulation)
        detect = _Batches(gpu, pod.detect_batch_ms, 1, 64)
        refine = _Batches(gpu, pod.refine_batch_ms, max(1, pod.hands), BUCKETS[-1])
        locks.append(lock)
        refining.append(refine)

        def start() -> None:
            simulation.compute(DECODE_MS, lambda: detect.add(found))

        def found() -> None:
            lock.compute(RULES_MS + LAUNCH_MS, lambda: refine.add(refined) if pod.hands else counted())

        def refined() -> None:
            lock.compute(REFINE_MS * pod.hands / 2 + WORKER_MS, counted)

        def counted() -> None:
            nonlocal frames
            frames += 1
            start()

        for _ in range(IN_PROGRESS):
            start()

    for _ in range(pod.processes):
        process()
    simulation.run(1e3)
    before = frames, gpu.busy, simulation.busy_cores, [lock.busy for lock in locks]
    simulation.run(1e3 * (1 + seconds))
    ms = 1e3 * seconds
    held = max(lock.busy - was for lock, was in zip(locks, before[3], strict=True))
    batches = sum(each.batches for each in refining)
    return Counted(
        fps=(frames - before[0]) / seconds,
        gpu=min(1.0, (gpu.busy - before[1]) / ms),
        cpu=min(1.0, (simulation.busy_cores - before[2]) / ms / pod.cores),
        lock=min(1.0, held / ms),
        crops_per_batch=sum(each.items for each in refining) / max(1, batches),
    )


def pod_of(gpu: str, *, cores: int, processes: int, hands: int) -> Pod:
    """Returns a pod with a GPU whose times are estimated from its data sheet."""
    crop_ms = sum(flops_per_crop(VIT_H)) / (NOMINAL[gpu] * SHARE_OF_PEAK) * 1e3
    detect_ms = DETECT_MS_H100 * FLOAT32["H100"] / FLOAT32[gpu]
    return Pod(crop_ms, detect_ms, cores, processes, hands)


@dataclass(frozen=True)
class Settings:
    """What the pod of k8s/components/gpu has for its worker."""

    processors: int
    """And threads that decode."""
    memory_gib: int
    memory_limit_gib: int


def settings(gpu: str = "H100", *, hands: int = 2, processes: int = 2) -> Settings:
    """Returns what fits one GPU: the processors that are needed, and two more.

    Those are for what isn't modelled: fetching pictures, the driver's threads, previews. Memory is estimated: for each process
    1.5 GiB for torch and the CUDA context, and 1.5 GiB for pictures in progress, pinned memory and the rest; while the
    checkpoint is read, its pages count, too.
    """
    processors = cores_needed(pod_of(gpu, cores=2, processes=processes, hands=hands)) + 2
    memory = 3 * processes + 1
    return Settings(processors, memory, memory + 4)


def cores_needed(pod: Pod, most: int = 32) -> int:
    """Returns the smallest even number of processors that reaches nearly what `most` would."""
    best = simulate(replace(pod, cores=most)).fps
    return next(n for n in range(2, most + 1, 2) if simulate(replace(pod, cores=n)).fps >= ENOUGH * best)


def main() -> None:
    """Prints the tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu", nargs="+", choices=list(FLOAT32), default=list(FLOAT32))
    parser.add_argument("--hands", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--cores", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--crop-ms", type=float, help="measured: of the GPU, for a crop in a batch of 64")
    parser.add_argument("--detect-ms", type=float, help="measured: of the GPU, for the detector's work on a frame")
    options = parser.parse_args()
    printed = []
    print("| GPU | hands a frame | processors | processes | frames/s | GPU busy | limited by | crops a batch |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |")
    for gpu, hands, cores, processes in itertools.product(options.gpu, options.hands, options.cores, options.processes):
        pod = pod_of(gpu, cores=cores, processes=processes, hands=hands)
        pod = replace(pod, crop_ms=options.crop_ms or pod.crop_ms, detect_ms=options.detect_ms or pod.detect_ms)
        found = simulate(pod)
        row = (
            gpu,
            hands,
            cores,
            processes,
            round(found.fps),
            f"{found.gpu:.0%}",
            found.limit,
            round(found.crops_per_batch),
        )
        print("| " + " | ".join(map(str, row)) + " |")
        printed.append(
            {
                "gpu": gpu,
                "hands": hands,
                "cores": cores,
                "processes": processes,
                "fps": found.fps,
                "gpu_busy": found.gpu,
            }
        )
    for gpu, processes in itertools.product(options.gpu, options.processes):
        fit = settings(gpu, processes=processes)
        print(
            f"{gpu}, processes {processes}, 2 hands a frame: WORKER_THREADS={fit.processors}, cpu {fit.processors}, "
            f"memory {fit.memory_gib}Gi to {fit.memory_limit_gib}Gi"
        )
    print(json.dumps({"bench": "gpu_pod", "rows": printed}))


if __name__ == "__main__":
    main()
