"""The door for the pipeline: frames and detections in, refined hands out."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer import batcher  # noqa: E402
from worker.hamer.consistency import Thresholds, Verdict  # noqa: E402
from worker.hamer.errors import DeviceError, DeviceLostError, HamerError, OutOfMemoryError, WeightsOverflowError  # noqa: E402
from worker.hamer.predictor import HamerPredictor, choose_device, choose_precisions  # noqa: E402
from worker.hamer.refiner import HamerRefiner, usable_boxes  # noqa: E402

LENIENT = Thresholds(
    min_overlap=0.0, max_offset=9, min_extent=0, max_extent=9, max_outside=1, min_pixels=0, max_joint_distance=9
)
"""The golden network is random: its hands don't match any picture."""


@pytest.fixture(scope="module")
def predictor(golden: SimpleNamespace) -> HamerPredictor:
    """The golden network in float32, with meshes."""
    return HamerPredictor.load(golden.checkpoint, device="cpu", precision="float32", mesh=True)


@pytest.fixture
def make(predictor: HamerPredictor) -> Iterator[Callable[..., HamerRefiner]]:
    """Makes refiners and closes them."""
    made: list[HamerRefiner] = []

    def make_refiner(**options: object) -> HamerRefiner:
        made.append(HamerRefiner(predictor, **({"thresholds": LENIENT, "deadline": 0.0} | options)))
        return made[-1]

    yield make_refiner
    for refiner in made:
        refiner.close()


@pytest.fixture
def hands(golden: SimpleNamespace) -> SimpleNamespace:
    """The golden boxes as a detector would give them."""
    n = len(golden.boxes)
    return SimpleNamespace(
        boxes=golden.boxes,
        is_right=golden.is_right,
        scores=np.linspace(0.9, 0.6, n, dtype=np.float32),
        keypoints=np.full((n, 21, 2), np.nan, np.float32),
    )


def test_golden_hands(make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace):
    """From the frame and its boxes come the official joints, cameras and meshes, left hands included."""
    refined = make().refine(golden.image, hands)
    poses, theirs = refined.poses, golden.outputs
    assert refined.source.tolist() == [0, 1, 2, 3]
    assert refined.verdicts == (Verdict.KEPT,) * 4
    assert np.abs(poses.keypoints_3d - theirs["full_keypoints_3d"]).max() < 3e-3
    assert np.abs(poses.vertices - theirs["full_vertices"]).max() < 3e-3
    assert np.abs(poses.cameras - theirs["pred_cam"]).max() < 2e-3
    assert np.abs(poses.translations - theirs["full_cam_t"]).max() < 2e-2
    # 3 mm of a hand of about 20 cm, in crops of up to 1141 pixels with the hand half as large
    assert np.abs(poses.keypoints_2d - theirs["crop_keypoints_px"]).max() < 5
    assert poses.focal == theirs["full_scaled_focal_length"]


def test_no_hands(make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace):
    """A frame without detections gives no hands and costs no batch."""
    refiner = make()
    none = SimpleNamespace(**{name: value[:0] for name, value in vars(hands).items()})
    refined = refiner.refine(golden.image, none)
    assert (len(refined), len(refined.poses), refined.verdicts, refiner.batcher.batches) == (0, 0, (), 0)


def test_bad_boxes_are_dropped(make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace):
    """Boxes that are empty, not finite, off the frame or absurd are dropped and counted; the others aren't touched."""
    hands.boxes = hands.boxes.copy()
    hands.boxes[0, 0] = np.nan
    hands.boxes[1, 2] = hands.boxes[1, 0]
    hands.boxes[3] = [0, 0, 1e7, 1e7]
    refiner = make()
    refined = refiner.refine(golden.image, hands)
    assert refined.source.tolist() == [2]
    assert np.abs(refined.poses.keypoints_3d - golden.outputs["full_keypoints_3d"][2:3]).max() < 3e-3
    assert refiner.counts == {"bad_box": 3, "kept": 1}


def test_usable_boxes():
    """A box must touch the frame; beyond the border it may reach."""
    boxes = np.array([[-50, -50, 10, 10], [-50, 0, 0, 10], [90, 40, 250, 99], [100, 0, 120, 20], [5, 5, 5, 9]], float)
    assert usable_boxes(boxes, 100, 50).tolist() == [True, False, True, False, False]
    assert usable_boxes(np.empty((0, 4)), 100, 50).shape == (0,)


def test_contradicted_detections_are_dropped(
    make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace
):
    """With the real thresholds the random network's hands contradict their boxes: dropped, never more than detected."""
    events: list[tuple[str, int]] = []
    refiner = make(thresholds=Thresholds(), on_event=lambda event, times: events.append((event, times)))
    refined = refiner.refine(golden.image, hands)
    assert len(refined.verdicts) == 4
    assert len(refined) < 4
    assert dict(events) == refiner.counts
    assert sum(refiner.counts.values()) == 4


def test_nan_drops_the_hand(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """A NaN anywhere in a hand's numbers drops this hand alone, and is counted."""
    forward = predictor.engine.forward

    def poisoned(crops: torch.Tensor) -> np.ndarray:
        rows = forward(crops).copy()
        rows[1, 200] = np.nan
        rows[2, 0] = np.inf
        return rows

    monkeypatch.setattr(predictor.engine, "forward", poisoned)
    refiner = make()
    refined = refiner.refine(golden.image, hands)
    assert refined.source.tolist() == [0, 3]
    assert np.isfinite(refined.poses.vertices).all()
    assert refiner.counts == {"kept": 2, "not_finite": 2}


def test_many_threads_share_batches(make: Callable[..., HamerRefiner], golden: SimpleNamespace, hands: SimpleNamespace):
    """Frames refined at the same time from several threads give what each gives alone."""
    refiner = make(deadline=0.05)
    alone = refiner.refine(golden.image, hands)
    before = refiner.batcher.batches
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda _: refiner.refine(golden.image, hands), range(6)))
    for refined in together:
        assert np.abs(refined.poses.keypoints_3d - alone.poses.keypoints_3d).max() < 1e-5
    assert refiner.batcher.crops == 4 * 7
    assert refiner.batcher.batches - before < 6


def test_out_of_memory_is_counted_and_survived(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """With room for two crops at a time, four hands still come out, in smaller batches."""
    forward = predictor.engine.forward

    def cramped(crops: torch.Tensor) -> np.ndarray:
        if len(crops) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(crops)

    monkeypatch.setattr(predictor.engine, "forward", cramped)
    refiner = make()
    assert len(refiner.refine(golden.image, hands)) == 4
    assert refiner.counts == {"kept": 4, "out_of_memory": 1}
    assert refiner.batcher.largest == 2


def test_cropping_may_run_out_of_memory_too(
    make: Callable[..., HamerRefiner],
    golden: SimpleNamespace,
    hands: SimpleNamespace,
    predictor: HamerPredictor,
    monkeypatch: pytest.MonkeyPatch,
):
    """A crop that finds no memory is tried once more; then the caller is told."""
    crop, failures = predictor.crop, [1]

    def cramped(*arguments: object) -> torch.Tensor:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return crop(*arguments)

    monkeypatch.setattr(predictor, "crop", cramped)
    refiner = make()
    assert len(refiner.refine(golden.image, hands)) == 4
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
    """A device that disappears under a caller's hands is as fatal as under the batcher's."""

    def lost(*_: object) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(predictor, "crop", lost)
    reports: list[DeviceLostError] = []
    refiner = make(on_lost=reports.append)
    with pytest.raises(DeviceLostError):
        refiner.refine(golden.image, hands)
    assert len(reports) == 1


def test_losing_the_device_ends_the_process_by_default(make: Callable[..., HamerRefiner]):
    """Nobody has to ask for the process to end: it is the default."""
    assert make().batcher._on_lost is batcher.end_process


def test_joints_alone(golden: SimpleNamespace, hands: SimpleNamespace, predictor: HamerPredictor):
    """Unless meshes are asked for, none are computed; the joints are the same."""
    with HamerRefiner.load(golden.checkpoint, device="cpu", precision="float32") as refiner:
        refiner._thresholds = LENIENT
        poses = refiner.refine(golden.image, hands).poses
    assert poses.vertices is None
    full = predictor.predict(golden.image, golden.boxes, golden.is_right)
    assert np.abs(poses.keypoints_3d - full.keypoints_3d).max() < 1e-5


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((9, 9, 4), np.uint8)]
)
def test_other_pictures_are_refused(image: np.ndarray, predictor: HamerPredictor):
    """A frame must be height, width, three colours of 8 bits."""
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        predictor.predict(image, np.array([[0.0, 0, 5, 5]]), np.array([True]))


def test_tiny_and_read_only_frames(predictor: HamerPredictor):
    """A frame of a single pixel, or one that can't be written, is a frame."""
    image = np.full((1, 1, 3), 255, np.uint8)
    image.setflags(write=False)
    assert predictor.predict(image, np.array([[-2.0, -2, 3, 3]]), np.array([False])).finite.all()


def test_predicting_nothing(golden: SimpleNamespace, predictor: HamerPredictor):
    """No boxes, no poses."""
    assert len(predictor.predict(golden.image, np.empty((0, 4)), np.empty(0, bool))) == 0


def test_faces(predictor: HamerPredictor):
    """The triangles for drawing are the checkpoint's."""
    assert predictor.faces.shape == (1538, 3)


@pytest.mark.parametrize("device", ["tpu9", "meta", "cuda:99"])
def test_devices_that_are_not_there(device: str):
    """Asking for a device that this machine hasn't got is an error at once."""
    with pytest.raises(DeviceError):
        choose_device(device)


def test_precisions_by_device():
    """A GPU tries float16 first and bfloat16 next."""
    assert [p.name for p in choose_precisions(torch.device("cuda"))] == ["float16", "bfloat16"]
    assert choose_precisions(torch.device("cpu"))[0].name in ("float32", "bfloat16")
    with pytest.raises(HamerError, match="int4"):
        HamerPredictor.load(Path("hamer.ckpt"), device="cpu", precision="int4")


def test_fallback_to_bfloat16(
    golden: SimpleNamespace, tensors: dict, write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    """Where weights or arithmetic overflow float16, bfloat16 is taken; where float16 was demanded, it is an error."""
    both = choose_precisions(torch.device("cuda"))
    monkeypatch.setattr("worker.hamer.predictor.choose_precisions", lambda _: both)

    def precision(state: dict) -> torch.dtype:
        engine = HamerPredictor.load(write_checkpoint(state), device="cpu").engine
        return engine.model.backbone.blocks[0].fc1.weight.dtype

    bias, weight = "backbone.blocks.0.mlp.fc1.bias", "backbone.blocks.0.mlp.fc1.weight"
    assert precision(dict(tensors)) == torch.float16
    assert precision(dict(tensors) | {bias: torch.full((256,), 1e5)}) == torch.bfloat16
    overflowing = dict(tensors) | {weight: torch.full((256, 64), 3e4) * torch.sign(tensors[weight])}
    assert precision(overflowing) == torch.bfloat16
    with pytest.raises(WeightsOverflowError):
        HamerPredictor.load(write_checkpoint(overflowing), device="cpu", precision="float16")
