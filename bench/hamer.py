"""The speed of HaMeR here, compared with a straightforward eager float32 forward pass, one crop at a time.

    python -m bench.hamer --size vit-h
    python -m bench.hamer --size tiny --rounds 20
    python -m bench.hamer --size vit-h --device cuda --rounds 30

The weights are random, which doesn't affect the speed. Each round runs the plain forward pass and all batch sizes in turn,
so that other load on the machine affects all of them alike; the results are medians. On a CPU the CPU seconds per crop are
printed too, because they hardly depend on other load. On a GPU what is timed are the graphs that the worker replays, from the
crops on the device to the rows in host memory, and for the backbone's share a graph of the backbone alone.

Then the way of a frame with two hands from its JPEG to its result, stage by stage, plain and ours (--no-way leaves that out).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch

from bench.hamer_reference import PlainHamer, flops_per_crop, random_tensors
from bench.hamer_way import WIDTH, hands_in, milliseconds, our_stages, plain_stages, table
from worker.download import download_progress
from worker.hamer.checkpoint import build_hamer
from worker.hamer.config import HamerConfig
from worker.hamer.engine import Engine
from worker.hamer.predictor import PRECISIONS, choose_precisions
from worker.hamer.sizes import VIT_H, HamerSizes
from worker.hamer.tuning import Compile
from worker.hands.detection import HandDetector
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.device.choice import choose_device
from worker.hands.device.engine import DeviceEngine
from worker.hands.effort import Effort
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec

TINY = HamerSizes(
    image_size=256, patch=16, dim=192, depth=4, heads=3, mlp_dim=768,
    decoder_dim=128, decoder_depth=2, decoder_heads=2, decoder_head_dim=64, decoder_mlp_dim=128,
)  # fmt: skip

NOMINAL = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "L40S": 362e12}
"""Dense 16-bit FLOP/s according to the data sheets."""


@dataclass
class Timings:
    """The times of several runs of one variant."""

    crops: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, run: Callable[[], object], device: torch.device) -> None:
        """Runs and times it once more."""
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    @property
    def latency(self) -> float:
        """Returns the median seconds of a run."""
        return statistics.median(self.wall)

    @property
    def rate(self) -> float:
        """Returns the crops per second."""
        return self.crops / self.latency

    @property
    def cpu_per_crop(self) -> float:
        """Returns the median CPU seconds per crop."""
        return statistics.median(self.cpu) / self.crops


class MatmulPeak:
    """The FLOP/s of a large matrix product here, an upper bound for a network."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._n = 8192 if device.type == "cuda" else 2048
        self._a, self._b = (torch.randn(self._n, self._n, device=device).to(dtype) for _ in range(2))
        self._timings = Timings(1)
        self._device = device

    def measure(self) -> None:
        """Times a few products."""
        for _ in range(5 if self._device.type == "cuda" else 2):
            self._timings.measure(lambda: self._a @ self._b, self._device)

    @property
    def rate(self) -> float:
        """Returns the best rate so far."""
        return 2 * self._n**3 / min(self._timings.wall)


def memory(device: torch.device, *, peak: bool) -> float:
    """Returns the current memory, or the peak since `forget_peak`, in GB: of the device, or on a CPU of the process."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)) / 1e9
    field_name = "VmHWM:" if peak else "VmRSS:"
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field_name)) * 1024 / 1e9


def forget_peak(device: torch.device) -> None:
    """Resets the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def device_name(device: torch.device) -> str:
    """Returns the name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")
    return f"{model}, {torch.get_num_threads()} threads"


class BackboneRun:
    """The backbone alone for batches of one size, as the engine runs it: as a graph, where there are graphs."""

    def __init__(self, engine: Engine, batch: int) -> None:
        self._engine = engine
        backbone, image = engine.model.backbone, engine.model.image_size
        shape = (batch, 3, image, image * 3 // 4)
        with engine.streams.computing(), engine.tuning.kernels():
            self._run = engine.streams.capture(backbone, shape, None) or backbone

    def __call__(self, crops: torch.Tensor) -> None:
        """Computes a batch, and waits for it."""
        with self._engine.streams.computing(), self._engine.tuning.kernels():
            self._run(crops)
            self._engine.streams.record().synchronize()


def way_of_a_frame(
    engine: Engine, plain: PlainHamer, rounds: int, *, width: int = WIDTH, effort: Effort = Effort.BALANCED
) -> dict[str, dict[str, float]]:
    """Returns the milliseconds of each stage, plain and ours, for a picture of 1280 x 720, or smaller, with two hands."""
    with download_progress(sys.stderr, TITLE) as progress:
        models = ensure_models(default_models_dir(), progress)
    image = SyntheticCamera(SyntheticSpec(seed=0, fps=1.0, people=(1, 2), size=(width, width * 9 // 16))).frame(0)
    jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 88))[1].tobytes()

    def wait() -> None:
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)

    with ExitStack() as opened:
        detector: HandDetector
        if engine.device.type == "cuda":
            detector = PalmLandmarkDetector(
                opened.enter_context(closing(DeviceEngine(models, engine.device))), effort=effort
            )
        else:
            from worker.hands.litert_engine import LiteRtEngine

            detector = PalmLandmarkDetector(LiteRtEngine(models), effort=effort)
        hands = hands_in(width)
        ways = {"plain": plain_stages(detector, plain, engine, hands), "ours": our_stages(detector, engine, hands)}
        return milliseconds(ways, jpeg, rounds, wait)


@torch.inference_mode()
def main() -> None:
    """Measures and prints two tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "vit-h"], default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=["auto", *PRECISIONS], default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="*", help="batch sizes (default: all sizes of the device)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: all)")
    parser.add_argument("--mesh", action="store_true", help="also compute the vertices")
    parser.add_argument("--compile", type=Compile, choices=list(Compile), default=Compile.AUTO, help="as in the worker")
    parser.add_argument("--no-way", action="store_true", help="the network alone")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    precision = choose_precisions(device)[0] if args.precision == "auto" else PRECISIONS[args.precision]
    sizes = VIT_H if args.size == "vit-h" else TINY

    tensors = {key: tensor.to(device) for key, tensor in random_tensors(sizes).items()}
    plain = PlainHamer(tensors, sizes)
    config = HamerConfig(heads=sizes.heads, decoder_heads=sizes.decoder_heads)
    plain(torch.zeros(1, 3, 256, 192, device=device))
    forget_peak(device)
    before = memory(device, peak=False)
    engine = Engine(build_hamer(tensors, config, precision=precision, device=device), mesh=args.mesh)
    batches = tuple(args.batches or engine.buckets)
    generator = torch.Generator().manual_seed(1)
    small = torch.randn(max(batches), 3, 32, 24, generator=generator)
    crops = torch.nn.functional.interpolate(small, size=(256, 192), mode="bilinear").clamp_(-2, 2.5).to(device)

    plain_timings = Timings(1)
    ours = {batch: Timings(batch) for batch in batches}
    backbone = {batch: Timings(batch) for batch in batches}
    plain(crops[:1])
    engine.tune(args.compile, None)
    for batch in sorted(batches, reverse=True):
        engine.warm_up(batch)
    backbones = {batch: BackboneRun(engine, batch) for batch in sorted(batches, reverse=True)}
    used = memory(device, peak=True) - before
    peaks = [MatmulPeak(dtype, device) for dtype in (precision.matrices, torch.float32)]
    for _ in range(args.rounds):
        for matmul in peaks:
            matmul.measure()
        plain_timings.measure(lambda: plain(crops[:1]), device)
        for batch in batches:
            ours[batch].measure(lambda n=batch: engine.forward(crops[:n]), device)  # type: ignore[misc]
            backbone[batch].measure(lambda n=batch: backbones[n](crops[:n]), device)  # type: ignore[misc]

    few = crops[:2]
    error = (engine.model(few, mesh=True)["vertices"] - plain(few)["vertices"]).norm(dim=-1)
    peak, plain_peak = (matmul.rate for matmul in peaks)
    backbone_flops, head_flops = flops_per_crop(sizes)
    nominal = next((flops for name, flops in NOMINAL.items() if name in device_name(device)), None)

    print(
        f"{device_name(device)}; torch {torch.__version__}; {args.size}, {precision.name}, {args.rounds} rounds; "
        f"attention: {engine.tuning}"
    )
    print(
        f"{(backbone_flops + head_flops) / 1e9:.1f} GFLOP per crop, {backbone_flops / 1e9:.1f} of them in the backbone"
    )
    print(
        f"largest matrix product: {peak / 1e12:.3f} TFLOP/s in {precision.name}, {plain_peak / 1e12:.3f} in float32",
        end="",
    )
    print(f"; {nominal / 1e12:.0f} according to the data sheet" if nominal else "")
    print(
        f"weights and work space: {used:.2f} GB; vertex error against float32: mean {error.mean() * 1e3:.2f} mm, ",
        end="",
    )
    print(f"largest {error.max() * 1e3:.2f} mm\n")
    print("| | batch | latency, ms | crops/s | times plain | CPU s/crop | times plain | backbone, share of peak |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = [("plain, eager float32", plain_timings, None)] + [("ours", ours[n], backbone[n]) for n in batches]
    for name, timings, part in rows:
        share = (
            part.rate * backbone_flops / (nominal or peak) if part else plain_timings.rate * backbone_flops / plain_peak
        )
        speedup, cpu_speedup = timings.rate / plain_timings.rate, plain_timings.cpu_per_crop / timings.cpu_per_crop
        print(
            f"| {name} | {timings.crops} | {timings.latency * 1e3:.1f} | {timings.rate:.2f} | {speedup:.2f} "
            f"| {timings.cpu_per_crop:.3f} | {cpu_speedup:.2f} | {share:.0%} |"
        )
    way = {} if args.no_way else way_of_a_frame(engine, plain, args.rounds)
    if way:
        print("", *table(way), sep="\n")
    rates = {str(n): ours[n].rate for n in batches}
    printed = {"bench": "hamer", "size": args.size, "device": device_name(device), "precision": precision.name}
    print(json.dumps({**printed, "plain_crops_per_s": plain_timings.rate, "crops_per_s": rates, "way_ms": way}))


if __name__ == "__main__":
    main()
