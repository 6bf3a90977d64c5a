"""The parts of bench.on_gpu: what is measured, with sizes for a GPU and small ones for a dry run on a CPU."""

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from bench.detector_engines import PRECISIONS, Comparison, tf32, variants
from bench.gpu_load import GpuLoad
from bench.hamer import NOMINAL, TINY, BackboneRun, device_name, way_of_a_frame
from bench.hamer_reference import PlainHamer, flops_per_crop, random_tensors
from bench.hamer_way import WIDTH
from bench.stages_rate import stages_rate
from worker.detect import read_image
from worker.download import download_progress
from worker.hamer.checkpoint import BRAIN, FULL, HALF, Precision, build_hamer, load_hamer
from worker.hamer.config import HamerConfig
from worker.hamer.detector import HamerDetector
from worker.hamer.engine import Engine
from worker.hamer.predictor import HamerPredictor
from worker.hamer.refiner import HamerRefiner
from worker.hamer.sizes import VIT_H
from worker.hamer.tuning import Compile
from worker.hands.detection import HandDetector, Hands
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.device.arena import Arena
from worker.hands.device.engine import AT_ONCE, DeviceEngine
from worker.hands.device.inputs import Rows, crop_rows, view_rows
from worker.hands.device.runner import BUCKETS, Runner
from worker.hands.effort import Effort
from worker.hands.geometry import RotatedSquare, View
from worker.hands.landmarks import LANDMARKS
from worker.hands.models import TITLE, ModelPaths, default_models_dir, ensure_models
from worker.hands.networks import AnchorNetwork, Network
from worker.hands.palm import PALMS
from worker.hands.persons import PERSONS
from worker.hands.poses import POSES
from worker.picture import Picture, decode
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLE = REPOSITORY / "tests" / "data" / "hamer_tiny"
SMALL = (160, 120)
"""Pixels of a dry run's pictures: the detector searches them in a single view."""
GOLDEN_BOUNDS_M = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 6e-3}
"""Of the vertices, metres."""


@dataclass(frozen=True)
class Setting:
    """Where it runs, and whether only to see that it does."""

    device: str
    dry_run: bool

    @property
    def where(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    def pick(self, full: Any, small: Any) -> Any:
        """Returns the value for the GPU, or the one for the dry run."""
        return small if self.dry_run else full

    def wait(self) -> None:
        """Returns when the device has done everything."""
        if self.where.type == "cuda":
            torch.cuda.synchronize(self.where)

    def median_s(self, run: Callable[[], object]) -> float:
        """Returns the median seconds of several runs, after a few to warm up."""
        times = []
        for _ in range(self.pick(15, 1)):
            self.wait()
            started = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times[self.pick(3, 0) :])


class Tell(Protocol):
    """Takes a row of the table, and its figures as numbers."""

    def __call__(self, what: str, figure: str, **values: Any) -> None:
        """Takes what was measured, the figure as text, and the numbers."""
        ...


def golden(setting: Setting, tell: Tell) -> None:
    """HaMeR's numbers for the small golden network, in each precision, with graphs and padding."""
    outputs = np.load(BUNDLE / "outputs.npz")
    crops = torch.from_numpy(np.load(BUNDLE / "crops.npz")["img"])[..., 32:224].to(setting.where)
    checkpoint = BUNDLE / "_DATA/hamer_ckpts/checkpoints/hamer.ckpt"
    for precision in setting.pick((FULL, HALF, BRAIN), (FULL,)):
        engine = Engine(load_hamer(checkpoint, precision=precision, device=setting.where), mesh=True)
        worst = 0.0
        for count in (len(crops), len(crops) - 1):  # the second is padded
            found = engine.layout.split(engine.forward(crops[:count]))["vertices"]
            worst = max(worst, float(np.abs(found - outputs["pred_vertices"][:count]).max()))
        bound = GOLDEN_BOUNDS_M[precision.name]
        verdict = "met" if worst <= bound else "MISSED"
        tell(f"vertices, {precision.name}", f"{worst:.2g} m, bound {bound:g} m: {verdict}", metres=worst, bound=bound)


def networks(setting: Setting, tell: Tell) -> None:
    """Each network with its input, by batch and precision: microseconds an input."""
    models = _models()
    arena = Arena(setting.where, setting.pick(8_000_000, 3_000_000))
    placed = arena.place(_scene((1280, 720)))
    setting.wait()
    for network in (PALMS, PERSONS, POSES, LANDMARKS):
        for precision in setting.pick(("float32", "tf32", "float16"), ("float32",)):
            with tf32(precision == "tf32"):
                file, buckets = getattr(models, network.file), setting.pick(BUCKETS, (1, 2))
                runner = Runner(network, file, arena, setting.where, dtype=PRECISIONS[precision], buckets=buckets)
                for batch in setting.pick((1, 16, 64), (2,)):
                    rows = _inputs(network, placed, batch)
                    seconds = setting.median_s(lambda rows=rows, run=runner: run.launch(rows).wait())  # type: ignore[misc]
                    micros = seconds / batch * 1e6
                    tell(f"{network.file}, {precision}, batches of {batch}", f"{micros:.1f} µs an input", micros=micros)


def engines(setting: Setting, tell: Tell) -> None:
    """Whether the same hands are found as with LiteRT, where that is installed."""
    try:
        from worker.hands.litert_engine import LiteRtEngine
    except ModuleNotFoundError as error:
        tell("the same hands as LiteRT", f"not compared: {error.name} isn't installed")
        return
    models, effort = _models(), setting.pick(Effort.BALANCED, Effort.FAST)
    photos = read_image(str(REPOSITORY / "docs" / "hands.jpg"))
    if setting.dry_run:
        photos = cv2.resize(photos, SMALL, interpolation=cv2.INTER_AREA).astype(np.uint8)
    images = [photos, *(_scene((1280, 720), number) for number in range(setting.pick(20, 0)))]
    pictures = [each for image in images for _, each in itertools.islice(variants(image), setting.pick(None, 2))]
    reference = PalmLandmarkDetector(LiteRtEngine(models), effort=effort)
    expected = [reference.detect(image) for image in pictures]
    for precision in setting.pick(("float32", "tf32", "float16"), ("float32",)):
        compared = Comparison()
        with tf32(precision == "tf32"), closing(_engine(setting, models, PRECISIONS[precision])) as engine:
            detector = PalmLandmarkDetector(engine, effort=effort)
            for number, (image, hands) in enumerate(zip(pictures, expected, strict=True)):
                compared.add(str(number), detector.detect(image), hands)
        other, px = len(compared.other_counts), max(compared.boxes_px, default=0.0)
        told = f"{other} of {compared.pictures} pictures with another count; boxes within {px:.2g} px"
        tell(f"{effort}, {precision}", told, other_counts=other, pictures=compared.pictures, box_px=px)


def detector(setting: Setting, tell: Tell) -> None:
    """JPEG to result through the worker's stages, by the number of threads that decode."""
    jpegs = [_jpeg(_scene(size)) for size in setting.pick(((1280, 720), (1920, 1080)), (SMALL,))]
    effort = setting.pick(Effort.BALANCED, Effort.FAST)
    with closing(_engine(setting, _models())) as engine:
        hands = PalmLandmarkDetector(engine, effort=effort)
        for jpeg, threads in itertools.product(jpegs, setting.pick((1, 4, 8, 16), (2,))):
            batches, inputs = engine.batches.batches, engine.batches.rows
            done = _throughput(setting, [hands] * threads, jpeg)
            each = (engine.batches.rows - inputs) / max(1, engine.batches.batches - batches)
            tell(f"{effort}, {_size(jpeg)}, {threads} threads", f"{done.text}; {each:.1f} inputs a batch", **vars(done))


def uploads(setting: Setting, tell: Tell) -> None:
    """Copies of a picture to the device: pageable, pinned, and into the arena with its pyramid."""
    arena = Arena(setting.where, 20_000_000)
    for size in setting.pick(((1280, 720), (1920, 1080)), (SMALL,)):
        image = _scene(size)
        pageable = torch.from_numpy(image)
        millis = {"pageable": setting.median_s(lambda page=pageable: page.to(setting.where)) * 1e3}  # type: ignore[misc]
        if setting.where.type == "cuda":
            pinned = pageable.pin_memory()
            pin = setting.median_s(lambda page=pinned: page.to(setting.where, non_blocking=True))  # type: ignore[misc]
            millis["pinned"] = pin * 1e3
        into = setting.median_s(lambda image=image: arena.release(arena.place(image)))  # type: ignore[misc]
        millis["arena, with its pyramid"] = into * 1e3
        for way, ms in millis.items():
            tell(f"{size[0]}x{size[1]}, {way}", f"{ms:.2f} ms", millis=ms)


def decoding(setting: Setting, tell: Tell) -> None:
    """JPEGs decoded by OpenCV on all processors."""
    cpus = os.cpu_count() or 1
    for size in setting.pick(((1280, 720), (1920, 1080)), (SMALL,)):
        jpeg, count = _jpeg(_scene(size)), setting.pick(512, 8)
        with ThreadPoolExecutor(cpus) as pool:
            started = time.perf_counter()
            for _ in pool.map(lambda _, jpeg=jpeg: decode(jpeg), range(count)):
                pass
            fps = count / (time.perf_counter() - started)
        tell(f"{size[0]}x{size[1]}, {len(jpeg) // 1024} KB, {cpus} processors", f"{fps:.0f} frames/s", fps=fps)


def hamer(setting: Setting, tell: Tell) -> None:
    """HaMeR with random weights: how it runs fastest, crops per second beside the plain way, and from JPEG to result."""
    sizes = setting.pick(VIT_H, TINY)
    tensors = {key: tensor.to(setting.where) for key, tensor in random_tensors(sizes).items()}
    config = HamerConfig(heads=sizes.heads, decoder_heads=sizes.decoder_heads)
    nominal = next((peak for name, peak in NOMINAL.items() if name in device_name(setting.where)), None)
    plain = PlainHamer(tensors, sizes)
    crops = torch.randn(setting.pick(64, 1), 3, 256, 192, device=setting.where)
    with torch.inference_mode():
        plain_fps = 1 / setting.median_s(lambda: plain(crops[:1]))
    tell("plain: float32, eager, one by one", f"{plain_fps:.1f} crops/s", crops_per_s=plain_fps)
    built: dict[str, Engine] = {}
    for precision in setting.pick((HALF, BRAIN), (FULL,)):
        built[precision.name] = engine = _hamer(setting, tensors, config, precision)
        _tune(setting, tell, engine, precision.name)
        for batch in setting.pick((64, 16, 4, 1), (1,)):
            some = crops[:batch]
            fps = batch / setting.median_s(lambda some=some, run=engine.forward: run(some))  # type: ignore[misc]
            share = f", {fps * sum(flops_per_crop(sizes)) / nominal:.0%} of the peak" if nominal else ""
            figure = f"{fps:.0f} crops/s, {fps / plain_fps:.1f} times the plain way{share}"
            tell(f"{precision.name}, batches of {batch}", figure, crops_per_s=fps, times_plain=fps / plain_fps)
        with torch.inference_mode():
            run_backbone = BackboneRun(engine, len(crops))
            fps = len(crops) / setting.median_s(lambda run=run_backbone: run(crops))  # type: ignore[misc]
        share = f", {fps * flops_per_crop(sizes)[0] / nominal:.0%} of the peak" if nominal else ""
        tell(
            f"{precision.name}, the backbone alone, batches of {len(crops)}",
            f"{fps:.0f} crops/s{share}",
            crops_per_s=fps,
        )
    first = next(iter(built.values()))
    with torch.inference_mode():
        width, effort = setting.pick((WIDTH, Effort.BALANCED), (SMALL[0], Effort.FAST))
        stages = way_of_a_frame(first, plain, setting.pick(10, 1), width=width, effort=effort)
    for stage in stages["ours"]:
        plain_ms, ours = stages["plain"][stage], stages["ours"][stage]
        tell(f"a frame alone, {stage}", f"{ours:.2f} ms, plain {plain_ms:.2f} ms", ours_ms=ours, plain_ms=plain_ms)
    _from_jpeg_to_result(setting, tell, first)


def _tune(setting: Setting, tell: Tell, engine: Engine, precision: str) -> None:
    """How long the choice of the kernels takes, what it is, and the graphs of all batch sizes."""
    started = time.perf_counter()
    engine.tune(Compile.AUTO, None)
    tuned = time.perf_counter() - started
    for batch in setting.pick(reversed(engine.buckets), ()):
        engine.warm_up(batch)
    setting.wait()
    ready = time.perf_counter() - started
    told = f"{engine.tuning}; chosen in {tuned:.1f} s, all graphs ready after {ready:.1f} s"
    tell(f"{precision}, the attention kernel", told, tuned_s=tuned, ready_s=ready, **asdict(engine.tuning))


class _TwoHands:
    """Searches as the detector does, and finds two hands, because the drawn people may have any number."""

    name = "two"

    def __init__(self, detector: PalmLandmarkDetector) -> None:
        self._detector = detector
        self.engine, self.at_once = detector.engine, detector.at_once

    def detect(self, image: Picture) -> Hands:
        return self.submit(image).result()

    def submit(self, image: Picture) -> Future[Hands]:
        two: Future[Hands] = Future()
        self._detector.submit(image).add_done_callback(lambda done: two.set_result(self._hands(done.result())))
        return two

    @staticmethod
    def _hands(_found: Hands) -> Hands:
        return Hands(
            boxes=np.array([[60, 15, 150, 115], [5, 20, 85, 110]], np.float32),
            is_right=np.array([True, False]),
            scores=np.array([0.9, 0.8], np.float32),
            keypoints=np.full((2, 21, 2), np.nan, np.float32),
        )


def _from_jpeg_to_result(setting: Setting, tell: Tell, engine: Engine) -> None:
    """The whole way through the worker's stages, with two hands a frame."""
    jpeg = _jpeg(_scene(setting.pick((1280, 720), SMALL)))
    effort = setting.pick(Effort.BALANCED, Effort.FAST)
    refiner = HamerRefiner(HamerPredictor(engine))
    refiner.batcher.warm_up(engine.warm_up)
    with closing(refiner), closing(_engine(setting, _models())) as hands:
        detector = HamerDetector(_TwoHands(PalmLandmarkDetector(hands, effort=effort)), refiner)
        for threads in setting.pick((4, 8, 16), (2,)):
            done = _throughput(setting, [detector] * threads, jpeg)
            tell(f"JPEG to result, {effort}, 2 hands, {threads} threads", done.text, **vars(done))


class _Throughput(SimpleNamespace):
    fps: float
    cpu_ms: float
    gpu_busy: float | None

    @property
    def text(self) -> str:
        """The figure."""
        busy = "" if self.gpu_busy is None else f", GPU busy {self.gpu_busy:.0%}"
        return f"{self.fps:.0f} frames/s, {self.cpu_ms:.2f} ms CPU a frame{busy}"


def _throughput(setting: Setting, detectors: Sequence[HandDetector], jpeg: bytes) -> _Throughput:
    """Runs the stages for a few seconds."""
    cv2.setNumThreads(1)
    detectors[0].detect(decode(jpeg))  # the first one allocates
    with GpuLoad(setting.where) as load:
        rate = stages_rate(detectors, jpeg, setting.pick(5.0, 0.1))
    cpu_ms = rate.cpu_s / max(1, rate.frames) * 1e3
    return _Throughput(fps=rate.frames / rate.seconds, cpu_ms=cpu_ms, gpu_busy=load.busy)


def _hamer(setting: Setting, tensors: Mapping[str, torch.Tensor], config: HamerConfig, precision: Precision) -> Engine:
    return Engine(build_hamer(dict(tensors), config, precision=precision, device=setting.where))


def _engine(setting: Setting, models: ModelPaths, dtype: torch.dtype = torch.float32) -> DeviceEngine:
    pixels = setting.pick(150_000_000, 8_000_000)
    at_once = setting.pick(AT_ONCE, 1)
    return DeviceEngine(models, setting.where, dtype=dtype, pixels=pixels, at_once=at_once)


def _models() -> ModelPaths:
    with download_progress(sys.stderr, TITLE) as progress:
        return ensure_models(default_models_dir(), progress)


def _scene(size: tuple[int, int], number: int = 0) -> Picture:
    """Returns a picture of two simulated people."""
    camera = SyntheticCamera(SyntheticSpec(seed=number, fps=1.0, people=(1, 2), size=size))
    return camera.frame(5 * number)


def _jpeg(image: Picture) -> bytes:
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 88))[1].tobytes()


def _size(jpeg: bytes) -> str:
    height, width = decode(jpeg).shape[:2]
    return f"{width}x{height}"


def _inputs(network: Network, placed: Any, count: int) -> Rows:
    """Returns inputs of a picture, as the runner takes them."""
    if isinstance(network, AnchorNetwork):
        views: Sequence[View] = [View(10 * (i % 8), 0, 1000, 700) for i in range(count)]
        return view_rows(placed, views, network.size)
    return crop_rows(placed, [RotatedSquare(400 + i, 300, 250, 0.3 * i) for i in range(count)], network.size)


PARTS: Mapping[str, Callable[[Setting, Tell], None]] = {
    part.__name__: part for part in (golden, networks, engines, detector, uploads, decoding, hamer)
}
"""In the order in which they run."""
