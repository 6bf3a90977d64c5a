import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.scene import ACT_S, Scene, turned
from worker.synthetic.spec import MAX_HANDS

HAND = np.array([[-50, -150], [50, -150], [90, -60], [30, 150], [-30, 150], [-60, 0]], np.float32)
"""The outline of something hand-like, 300 pixels tall."""


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    hands=st.tuples(st.integers(0, MAX_HANDS), st.integers(0, MAX_HANDS)).map(lambda pair: (min(pair), max(pair))),
    size=st.sampled_from([(640, 480), (1280, 720), (320, 640), (64, 64)]),
    seconds=st.floats(0, 3600),
)
def test_hands_stay_whole_and_apart(seed: int, hands: tuple[int, int], size: tuple[int, int], seconds: float) -> None:
    """At any time there are as many hands as the truth says, each inside the picture and inside its own column."""
    scene = Scene(seed, 25.0, size, hands, [HAND] * 4)
    index = int(seconds * 25)
    poses = scene.poses(index)
    assert len(poses) == scene.true_hands(index)
    assert hands[0] <= len(poses) <= hands[1]
    for column, pose in enumerate(sorted(poses, key=lambda pose: pose.x)):
        points = turned(HAND, pose.turn) * pose.scale + (pose.x, pose.y)
        assert points[:, 0].min() >= column * size[0] / len(poses) + 2
        assert points[:, 0].max() <= (column + 1) * size[0] / len(poses) - 2
        assert points[:, 1].min() >= 2
        assert points[:, 1].max() <= size[1] - 2


def test_paths_are_smooth() -> None:
    """Within an act no hand moves more than a few pixels from one frame to the next, though all of them move."""
    scene = Scene(1, 25.0, (640, 480), (2, 2), [HAND] * 4)
    centres = np.array([[(pose.x, pose.y) for pose in scene.poses(index)] for index in range(int(ACT_S * 25))])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=2)
    assert steps.max() < 16
    assert (np.ptp(centres, axis=0) > 5).all()


def test_the_number_of_hands_changes() -> None:
    """Over a minute every number within the range is seen, and only changes at the boundary of an act."""
    scene = Scene(0, 10.0, (640, 480), (0, 3), [HAND] * 4)
    numbers = [scene.true_hands(index) for index in range(600)]
    assert set(numbers) == {0, 1, 2, 3}
    assert all(index % int(ACT_S * 10) == 0 for index in range(1, 600) if numbers[index] != numbers[index - 1])


def test_frames_do_not_depend_on_those_before() -> None:
    """Two cameras of one seed give the same picture for one index, whatever they drew before; other seeds another."""
    one, two, other = SyntheticCamera(seed=5), SyntheticCamera(seed=5), SyntheticCamera(seed=6)
    two.frame(999)
    np.testing.assert_array_equal(one.frame(120), two.frame(120))
    assert (one.frame(120) != other.frame(120)).any()


@pytest.mark.parametrize("index", [0, 30, 130, 230, 333, 480, 777])
def test_the_picture_shows_the_true_number(index: int) -> None:
    """Apart from the empty background there are as many connected things as true hands, none at the border."""
    camera, empty = SyntheticCamera(seed=9), SyntheticCamera(seed=9, hands=(0, 0))
    image = camera.frame(index)
    assert image.shape == (480, 640, 3)
    assert image.dtype == np.uint8
    changed = (cv2.absdiff(image, empty.frame(index)).max(axis=2) > 12).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    assert sum(area > 1000 for area in stats[1:, cv2.CC_STAT_AREA]) == camera.true_hands(index) == count - 1
    border = np.concatenate([changed[0], changed[-1], changed[:, 0], changed[:, -1]])
    assert not border.any()


def test_a_hand_is_painted_where_its_outline_says() -> None:
    """A hand covers its pose's outline to within a pixel, however it leans, and with as much of itself as upright."""
    camera, empty = SyntheticCamera(seed=9, hands=(1, 1)), SyntheticCamera(seed=9, hands=(0, 0))
    for index in range(0, 1000, 100):
        (pose,) = camera._scene.poses(index)
        sprite = camera._sprites[pose.sprite]
        outline = turned(sprite.outline, pose.turn) * pose.scale + (pose.x, pose.y)
        changed = cv2.absdiff(camera.frame(index), empty.frame(index)).max(axis=2) > 6
        painted = np.argwhere(changed)[:, ::-1]
        np.testing.assert_allclose(painted.min(axis=0), outline.min(axis=0), atol=2)
        np.testing.assert_allclose(painted.max(axis=0), outline.max(axis=0), atol=2)
        assert changed.sum() == pytest.approx((sprite.image[:, :, 3] > 127).sum() * pose.scale**2, rel=0.06)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"size": (10, 480)}, "size"),
        ({"hands": (0, 4)}, "hands"),
        ({"hands": (2, 1)}, "hands"),
    ],
)
def test_wrong_values_are_named(arguments: dict, complaint: str) -> None:
    """A value out of its range is a ValueError that names it."""
    with pytest.raises(ValueError, match=complaint):
        SyntheticCamera(**arguments)
