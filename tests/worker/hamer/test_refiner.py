"""The pipeline's door to HaMeR: frames and detections in, refined hands out."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from support.waiting import wait_until

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer import batcher  # noqa: E402
from worker.hamer.checkpoint import BRAIN, HALF, load_hamer  # noqa: E402
from worker.hamer.consistency import Thresholds  # noqa: E402
from worker.hamer.engine import Engine  # noqa: E402
from worker.hamer.errors import DeviceLostError, OutOfMemoryError  # noqa: E402
from worker.hamer.modeling.hamer import Hamer  # noqa: E402
from worker.hamer.predictor import HamerPredictor  # noqa: E402
from worker.hamer.refiner import HamerRefiner, usable_boxes  # noqa: E402
from worker.hamer.streams import Event, HostStreams, Launched  # noqa: E402
from worker.hamer.verdicts import Verdict  # noqa: E402
from worker.options import HamerPrecision  # noqa: E402

Events = list[tuple[str, int]]


@pytest.fixture
def events() -> Events:
    """The events that refiners have reported."""
    return []


@pytest.fixture
def make(predictor: HamerPredictor, lenient: Thresholds, events: Events) -> Iterator[Callable[..., HamerRefiner]]:
    """Makes refiners that report to `events`, and closes them."""
    made: list[HamerRefiner] = []

    def make_refiner(**options: object) -> HamerRefiner:
        defaults = {"thresholds": lenient, "on_event": lambda *event: events.append(event)}
        made.append(HamerRefiner(predictor, **(defaults | options)))
        return made[-1]

    yield make_refiner
    for refiner in made:
        refiner.close()


def test_golden_hands(
    make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace, events: Events
):
    """A frame and its boxes give the official joints, cameras and meshes, for left hands too."""
    refined = make().refine(golden.image, hands)
    poses, theirs = refined.poses, golden.outputs
    assert refined.source.tolist() == [0, 1, 2, 3]
    assert events == [("kept", 4)]
    assert np.abs(poses.keypoints_3d - theirs["full_keypoints_3d"]).max() < 3e-3
    assert np.abs(poses.vertices - theirs["full_vertices"]).max() < 3e-3
    assert np.abs(poses.cameras - theirs["pred_cam"]).max() < 2e-3
    assert np.abs(poses.translations - theirs["full_cam_t"]).max() < 2e-2
    # 3 mm of a hand of about 20 cm, in crops of up to 1141 pixels with the hand half as large
    assert np.abs(poses.keypoints_2d - theirs["crop_keypoints_px"]).max() < 5
    assert poses.focals.tolist() == [theirs["full_scaled_focal_length"]] * 4


def test_no_hands(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    events: Events,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """A frame without detections has no hands and costs no batch."""
    none = SimpleNamespace(**{name: value[:0] for name, value in vars(hands).items()})
    monkeypatch.setattr(predictor.engine, "launch", None)
    refined = make().refine(golden.image, none)
    assert (len(refined.source), len(refined.poses), events) == (0, 0, [])


def test_bad_boxes_are_dropped(
    make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace, events: Events
):
    """Boxes that are empty, not finite, off the frame or absurd are dropped and counted; the others are unaffected."""
    hands.boxes = hands.boxes.copy()
    hands.boxes[0, 0] = np.nan
    hands.boxes[1, 2] = hands.boxes[1, 0]
    hands.boxes[3] = [0, 0, 1e7, 1e7]
    refined = make().refine(golden.image, hands)
    assert refined.source.tolist() == [2]
    assert np.abs(refined.poses.keypoints_3d - golden.outputs["full_keypoints_3d"][2:3]).max() < 3e-3
    assert sorted(events) == [("bad_box", 3), ("kept", 1)]
    assert refined.verdicts == [Verdict.BAD_BOX, Verdict.BAD_BOX, Verdict.KEPT, Verdict.BAD_BOX]


def test_usable_boxes():
    """A box must be partly on the frame; it may reach beyond the border."""
    boxes = np.array([[-50, -50, 10, 10], [-50, 0, 0, 10], [90, 40, 250, 99], [100, 0, 120, 20], [5, 5, 5, 9]], float)
    assert usable_boxes(boxes, 100, 50).tolist() == [True, False, True, False, False]
    assert usable_boxes(np.empty((0, 4)), 100, 50).shape == (0,)


def test_contradicted_detections_are_dropped(
    make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace, events: Events
):
    """With the real thresholds the random network's hands contradict their boxes and are dropped; each is reported."""
    refined = make(thresholds=Thresholds()).refine(golden.image, hands)
    assert len(refined.source) == dict(events).get(Verdict.KEPT, 0) < 4
    assert sum(times for _, times in events) == 4


def test_nan_drops_the_hand(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    events: Events,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """NaN or infinity anywhere in a hand's numbers drops this hand alone, and is counted."""
    launch = predictor.engine.launch

    def poisoned(crops: torch.Tensor, *, wide_range: bool) -> Launched:
        launched = launch(crops, wide_range=wide_range)
        rows = launched.rows.clone()
        rows[1, 200] = np.nan
        rows[2, 0] = np.inf
        return Launched(rows, launched.done)

    monkeypatch.setattr(predictor.engine, "launch", poisoned)
    refined = make().refine(golden.image, hands)
    assert refined.source.tolist() == [0, 3]
    assert np.isfinite(refined.poses.vertices).all()
    assert sorted(events) == [("kept", 2), ("not_finite", 2)]


def test_many_threads_share_batches(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """Frames of several threads share batches, and each gets the same hands as alone."""
    launch, sizes = predictor.engine.launch, []

    def counted(crops: torch.Tensor, *, wide_range: bool) -> Launched:
        sizes.append(len(crops))
        if (
            len(sizes) == 2
        ):  # while the device is busy with the first of the six frames, or two of them, the others wait
            wait_until(lambda: len(refiner.batcher._waiting) + sizes[1] // 4 == 6, "the other frames")
        return launch(crops, wide_range=wide_range)

    monkeypatch.setattr(predictor.engine, "launch", counted)
    refiner = make()
    alone = refiner.refine(golden.image, hands)
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda _: refiner.refine(golden.image, hands), range(6)))
    for refined in together:
        assert np.abs(refined.poses.keypoints_3d - alone.poses.keypoints_3d).max() < 1e-5
    assert sizes in ([4, 4, 8, 8, 4], [4, 8, 8, 8])


def test_loading_on_a_cpu_computes_nothing(golden: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    """The first frame doesn't wait for trials: on a CPU they make nothing faster and take as long as frames do."""
    computed: list[int] = []
    rows = Engine._rows
    monkeypatch.setattr(Engine, "_rows", lambda engine, crops, *_: computed.append(len(crops)) or rows(engine, crops))
    with closing(HamerRefiner.load(golden.checkpoint, device="cpu")):
        assert computed == []


@pytest.mark.parametrize("precision", [each for each in get_args(HamerPrecision) if each != "auto"])
def test_the_precision_may_be_chosen(golden: SimpleNamespace, precision: str):
    """By the names of the flag."""
    with closing(HamerRefiner.load(golden.checkpoint, device="cpu", precision=precision)) as refiner:
        dtype = refiner.predictor.engine.model.backbone.blocks[0].fc1.weight.dtype
    assert str(dtype) == f"torch.{precision}"


class TwoStreams(HostStreams):
    """A CPU that notes on which stream everything is started, and whose batches end when a test says so."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.current = "default"
        self.let_go = threading.Event()

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def uploading(self) -> AbstractContextManager[object]:
        return self.on("crops")

    def computing(self) -> AbstractContextManager[object]:
        return self.on("batches")

    def upload(self, image: np.ndarray) -> torch.Tensor:
        self.notes.append(f"upload on {self.current}")
        return super().upload(image)

    def download(self, rows: torch.Tensor) -> torch.Tensor:
        self.notes.append(f"download on {self.current}")
        return rows.clone()

    def record(self) -> Event:
        self.notes.append(f"record on {self.current}")
        return SimpleNamespace(stream=self.current, synchronize=self._synchronize)

    def wait(self, event: SimpleNamespace) -> None:
        self.notes.append(f"{self.current} waits for {event.stream}")

    def _synchronize(self) -> None:
        assert self.let_go.wait(60)
        self.notes.append("the thread waits")


def test_who_submits_waits_for_nothing(
    model: Hamer, golden: SimpleNamespace, hands: SimpleNamespace, lenient: Thresholds
):
    """The stream of the batches waits for the crops; the thread that waits for the batch is the batcher's."""
    streams = TwoStreams()
    with closing(HamerRefiner(HamerPredictor(Engine(model, streams=streams)), thresholds=lenient)) as refiner:
        refined = refiner.submit(golden.image, hands)
        wait_until(lambda: len(streams.notes) == 5, "the batch")
        assert streams.notes == [
            "upload on crops",
            "record on crops",
            "batches waits for crops",
            "download on batches",
            "record on batches",
        ]
        assert not refined.done()
        streams.let_go.set()
        assert refined.result(60).source.tolist() == [0, 1, 2, 3]
        assert streams.notes[5:] == ["the thread waits"]


def test_a_forward_waits_for_whoever_makes_the_crops(model: Hamer):
    """Its crops come from the current stream, on which they may still be in the making."""
    streams = TwoStreams()
    streams.let_go.set()
    Engine(model, streams=streams).forward(torch.zeros(1, 3, 256, 192))
    assert streams.notes == [
        "record on default",
        "batches waits for default",
        "download on batches",
        "record on batches",
        "the thread waits",
    ]


def test_an_overflow_of_float16_is_computed_in_bfloat16(
    golden: SimpleNamespace,
    overflowing: dict,
    write_checkpoint: Callable[..., Path],
    hands: SimpleNamespace,
    lenient: Thresholds,
    events: Events,
):
    """A network whose numbers exceed float16 for pictures gives the hands of bfloat16, and each such crop is counted."""
    path = write_checkpoint(overflowing)
    half, brain = (HamerPredictor(Engine(load_hamer(path, precision=precision))) for precision in (HALF, BRAIN))
    assert not half.engine.is_finite()
    poses = []
    for predictor in (half, brain):
        refiner = HamerRefiner(predictor, thresholds=lenient, on_event=lambda *event: events.append(event))
        with closing(refiner):
            poses.append(refiner.refine(golden.image, hands).poses)
    assert events == [("overflow", 4), ("kept", 4), ("kept", 4)]
    assert np.abs(poses[0].keypoints_3d - poses[1].keypoints_3d).max() < 6e-3  # bfloat16's own error


def test_out_of_memory_is_counted_and_loses_no_hand(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    events: Events,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """With memory for two crops at a time, all four hands are refined, in smaller batches."""
    launch = predictor.engine.launch

    def cramped(crops: torch.Tensor, *, wide_range: bool) -> Launched:
        if len(crops) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return launch(crops, wide_range=wide_range)

    monkeypatch.setattr(predictor.engine, "launch", cramped)
    refiner = make()
    assert len(refiner.refine(golden.image, hands).source) == 4
    assert events == [("out_of_memory", 1), ("kept", 4)]
    assert refiner.batcher.largest == 2


def test_cropping_may_run_out_of_memory_too(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """Cropping without memory is tried once more; then the caller gets the error."""
    crop, failures = predictor.crop, [1]

    def cramped(*arguments: object) -> torch.Tensor:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return crop(*arguments)

    monkeypatch.setattr(predictor, "crop", cramped)
    refiner = make()
    assert len(refiner.refine(golden.image, hands).source) == 4
    failures += [1, 1]
    with pytest.raises(OutOfMemoryError):
        refiner.refine(golden.image, hands)


def test_a_device_lost_while_cropping(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """A device that is lost in a caller's thread is as fatal as in the batcher's."""

    def lost(*_: object) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(predictor, "crop", lost)
    reports: list[DeviceLostError] = []
    refiner = make(on_lost=reports.append)
    with pytest.raises(DeviceLostError):
        refiner.refine(golden.image, hands)
    assert len(reports) == 1


def test_losing_the_device_ends_the_process_by_default(make: Callable[..., HamerRefiner]):
    """By default the process ends."""
    assert make().batcher._on_lost is batcher.end_process


def test_joints_alone(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    joints_predictor: HamerPredictor,
    lenient: Thresholds,
):
    """Unless meshes are requested, none are computed; the joints are the same."""
    with closing(HamerRefiner(joints_predictor, thresholds=lenient)) as refiner:
        poses = refiner.refine(golden.image, hands).poses
    assert poses.vertices is None
    full = make().refine(golden.image, hands).poses
    assert np.abs(poses.keypoints_3d - full.keypoints_3d).max() < 1e-5


@pytest.mark.parametrize(
    ("error", "raised", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.22 GiB"), OutOfMemoryError, 0),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), DeviceLostError, 1),
    ],
)
@pytest.mark.parametrize("where", ["worker.hamer.predictor.load_hamer", "worker.hamer.engine.Engine.warm_up"])
def test_a_device_that_fails_at_the_start(
    golden: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type, lost: int, where: str
):
    """While weights or batch sizes are prepared, a shortage of memory is an error with its text, and a lost device is fatal."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(where, fail)
    reports: list[DeviceLostError] = []
    with pytest.raises(raised, match="memory" if lost == 0 else "ECC"):
        HamerRefiner.load(golden.checkpoint, device="cpu", on_lost=reports.append)
    assert len(reports) == lost
