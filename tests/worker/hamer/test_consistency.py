"""The comparison of HaMeR's hands with the detections."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.consistency import Thresholds, judge
from worker.hamer.geometry import crops_of_boxes
from worker.hamer.poses import HandPoses
from worker.hamer.verdicts import Verdict

BOX = np.array([400.0, 300.0, 520.0, 480.0])  # the crop's side is 360
SIDE = 360.0
FRAME = (1280, 720)
UNIT = np.random.default_rng(0).uniform(size=(21, 2))
UNIT[:2] = [[0, 0], [1, 1]]  # so that the joints' hull is the unit square


def joints_in(box: np.ndarray) -> np.ndarray:
    """Returns 21 joints whose hull is the box."""
    return box[:2] + UNIT * (box[2:] - box[:2])


def poses_of(boxes: np.ndarray, joints: np.ndarray) -> HandPoses:
    """Returns plausible hands with these joints in the crops of these boxes."""
    n = len(boxes)
    return HandPoses(
        crops=crops_of_boxes(boxes, np.ones(n, bool)),
        keypoints_2d=joints,
        keypoints_3d=np.zeros((n, 21, 3)),
        cameras=np.tile([0.9, 0.0, 0.0], (n, 1)),
        translations=np.tile([0.0, 0.0, 30.0], (n, 1)),
        focals=np.full(n, 25000.0),
        rotations=np.tile(np.eye(3), (n, 16, 1, 1)),
        betas=np.zeros((n, 10)),
        spreads=np.ones(n),
        finite=np.ones(n, bool),
        vertices=None,
    )


def verdict_of(
    joints: np.ndarray, box: np.ndarray = BOX, change: Callable[[HandPoses], object] = id, **options
) -> Verdict:
    """Returns the verdict on a single hand."""
    poses = poses_of(box[None], joints[None])
    change(poses)
    keypoints = options.pop("keypoints", np.full((1, 21, 2), np.nan))
    return judge(poses, box[None], np.ones(1), keypoints, options.pop("frame", FRAME), Thresholds(**options))[0]


def shifted(dx: float, dy: float = 0.0) -> np.ndarray:
    """Returns the joints of a hand beside the box."""
    return joints_in(BOX) + np.array([dx, dy])


def scaled(factor: float) -> np.ndarray:
    """Returns the joints of a hand larger or smaller than the box, with the same centre."""
    middle = (BOX[:2] + BOX[2:]) / 2
    return middle + factor * (joints_in(BOX) - middle)


@pytest.mark.parametrize(
    ("joints", "expected"),
    [
        (joints_in(BOX), Verdict.KEPT),
        (shifted(0.05 * SIDE), Verdict.KEPT),
        (shifted(0.16 * SIDE), Verdict.OFF_CENTRE),
        (shifted(0.0, -0.16 * SIDE), Verdict.OFF_CENTRE),
        (scaled(0.48), Verdict.WRONG_SIZE),
        (scaled(1.62), Verdict.WRONG_SIZE),
        (scaled(0.65), Verdict.NO_OVERLAP),
        (scaled(1.5), Verdict.NO_OVERLAP),
        (scaled(0.04), Verdict.TOO_SMALL),
    ],
)
def test_projection_against_box(joints: np.ndarray, expected: Verdict):
    """The projected hand must have about the box's position and size."""
    assert verdict_of(joints) is expected


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.cameras.__setitem__((0, 0), -0.1),
        lambda p: p.translations.__setitem__((0, 2), -1.0),
        lambda p: p.betas.__setitem__((0, 3), -5.5),
        lambda p: p.spreads.__setitem__(0, 0.01),
    ],
    ids=["behind the camera by scale", "behind the camera", "monstrous", "degenerate rotation"],
)
def test_impossible_hands(change: Callable[[HandPoses], object]):
    """An impossible hand is dropped wherever it is."""
    assert verdict_of(joints_in(BOX), change=change) is Verdict.IMPLAUSIBLE


def test_numbers_that_are_not_finite():
    """A hand with NaN is dropped before it is compared."""
    joints = joints_in(BOX)
    joints[3] = np.nan
    assert verdict_of(joints, change=lambda p: p.finite.__setitem__(0, False)) is Verdict.NOT_FINITE


def test_joints_beyond_the_crop():
    """Too many joints outside the crop are a contradiction, even if the hull is right."""
    low, high = BOX[:2] - 0.05 * SIDE - 0.25 * SIDE, BOX[2:] + 0.3 * SIDE
    joints = joints_in(BOX)
    joints[2:12] = np.where(np.arange(10)[:, None] % 2, low, high)
    assert verdict_of(joints, max_extent=9.0, min_overlap=0.0) is Verdict.OUTSIDE


def test_against_the_detectors_joints():
    """Joints far from the detector's own are a contradiction; if it has none, they aren't compared."""
    joints = joints_in(BOX)
    assert verdict_of(joints, keypoints=joints[None] + 0.05 * SIDE) is Verdict.KEPT
    assert verdict_of(joints, keypoints=joints[None, ::-1] * 1.0) is Verdict.OTHER_JOINTS
    assert verdict_of(joints, keypoints=np.full((1, 21, 2), np.nan)) is Verdict.KEPT


def test_hands_cut_off_by_the_border():
    """A box that ends at the frame's border isn't contradicted by the part of the hand beyond it."""
    box = np.array([0.0, 300.0, 70.0, 480.0])
    joints = joints_in(np.array([-90.0, 300.0, 70.0, 480.0]))
    assert verdict_of(joints, box) is Verdict.KEPT
    in_the_open = np.tile([300.0, 0.0], 2)
    assert verdict_of(joints + in_the_open[:2], box + in_the_open) is Verdict.NO_OVERLAP


def judge_two(offset: float, scores: tuple[float, float], boxes_apart: float | None = None) -> list[Verdict]:
    """Returns the verdicts on two hands whose joints, and boxes unless given, are this many pixels apart."""
    apart = offset if boxes_apart is None else boxes_apart
    boxes = np.stack([BOX, BOX + np.tile([apart, 0.0], 2)])
    joints = np.stack([joints_in(BOX), joints_in(BOX) + np.array([offset, 0.0])])
    thresholds = Thresholds(max_offset=9.0, min_overlap=0.0)
    return judge(poses_of(boxes, joints), boxes, np.array(scores), np.full((2, 21, 2), np.nan), FRAME, thresholds)


def test_the_surer_of_two_duplicates_is_kept():
    """Of hands with nearly the same joints or boxes, only the more confident one is kept."""
    assert judge_two(5.0, (0.4, 0.9)) == [Verdict.DUPLICATE, Verdict.KEPT]
    assert judge_two(5.0, (0.9, 0.4)) == [Verdict.KEPT, Verdict.DUPLICATE]
    assert judge_two(20.0, (0.9, 0.4), boxes_apart=100.0) == [Verdict.KEPT, Verdict.DUPLICATE]  # by joints
    assert judge_two(100.0, (0.9, 0.4), boxes_apart=20.0) == [Verdict.KEPT, Verdict.DUPLICATE]  # by boxes
    assert judge_two(130.0, (0.9, 0.4)) == [Verdict.KEPT, Verdict.KEPT]


def test_a_contradicted_hand_suppresses_no_other():
    """A detection that is dropped doesn't make another one a duplicate."""
    boxes = np.stack([BOX, BOX])
    joints = np.stack([scaled(0.65), joints_in(BOX)])
    verdicts = judge(
        poses_of(boxes, joints), boxes, np.array([0.9, 0.4]), np.full((2, 21, 2), np.nan), FRAME, Thresholds()
    )
    assert verdicts == [Verdict.NO_OVERLAP, Verdict.KEPT]


coordinates = st.floats(-500, 1500)


@settings(max_examples=100)
@given(
    arrays(float, (5, 21, 2), elements=coordinates),
    arrays(float, (5, 4), elements=coordinates),
    st.permutations(range(5)),
)
def test_the_order_of_hands_does_not_matter(joints: np.ndarray, boxes: np.ndarray, order: list[int]):
    """There is one verdict for each hand, which doesn't depend on the order."""
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:]) + 1], axis=1)
    scores, unseen = np.linspace(0.9, 0.5, 5), np.full((5, 21, 2), np.nan)
    verdicts = judge(poses_of(boxes, joints), boxes, scores, unseen, FRAME, Thresholds())
    again = judge(poses_of(boxes[order], joints[order]), boxes[order], scores[order], unseen, FRAME, Thresholds())
    assert [verdicts[n] for n in order] == again
