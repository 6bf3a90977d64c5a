from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.synthetic.camera import MovingHands, SyntheticCamera
from worker.synthetic.scene import SEGMENT_S, Scene, rotated
from worker.synthetic.spec import MAX_HANDS, SyntheticSpec

HAND = np.array([[-50, -150], [50, -150], [90, -60], [30, 150], [-30, 150], [-60, 0]], np.float32)
"""The outline of a shape like a hand, 300 pixels tall."""


def scene(**properties: Any) -> Scene:
    """Returns the scene of a camera with these properties."""
    return Scene(SyntheticSpec(**properties), [HAND] * 4)


@pytest.fixture(scope="module")
def camera() -> SyntheticCamera:
    """A simulated camera."""
    return SyntheticCamera(SyntheticSpec(seed=9))


@pytest.fixture(scope="module")
def background() -> np.ndarray:
    """The same without hands: any of its frames."""
    return SyntheticCamera(SyntheticSpec(seed=9, hands=(0, 0))).frame(0)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    hands=st.tuples(st.integers(0, MAX_HANDS), st.integers(0, MAX_HANDS)).map(lambda pair: (min(pair), max(pair))),
    size=st.sampled_from([(640, 480), (1280, 720), (320, 640), (64, 64)]),
    seconds=st.floats(0, 3600),
)
def test_hands_stay_whole_and_apart(seed: int, hands: tuple[int, int], size: tuple[int, int], seconds: float) -> None:
    """At any time there is the true number of hands, each inside the picture and its own column."""
    shown, index = scene(seed=seed, size=size, hands=hands), int(seconds * 25)
    poses = shown.poses(index)
    assert len(poses) == shown.true_hands(index)
    assert hands[0] <= len(poses) <= hands[1]
    for column, pose in enumerate(sorted(poses, key=lambda pose: pose.x)):
        points = rotated(HAND, pose.turn) * pose.scale + (pose.x, pose.y)
        assert points[:, 0].min() >= column * size[0] / len(poses) + 2
        assert points[:, 0].max() <= (column + 1) * size[0] / len(poses) - 2
        assert points[:, 1].min() >= 2
        assert points[:, 1].max() <= size[1] - 2


def test_paths_are_smooth() -> None:
    """Within a segment every hand moves, but only a few pixels from one frame to the next."""
    shown = scene(seed=1, hands=(2, 2))
    centres = np.array([[(pose.x, pose.y) for pose in shown.poses(index)] for index in range(int(SEGMENT_S * 25))])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=2)
    assert steps.max() < 16
    assert (np.ptp(centres, axis=0) > 5).all()


def test_the_number_of_hands_changes() -> None:
    """Within a minute every number of hands in the range occurs; it changes only between segments."""
    shown = scene(fps=10.0)
    numbers = [shown.true_hands(index) for index in range(600)]
    assert set(numbers) == {0, 1, 2, 3}
    assert all(index % int(SEGMENT_S * 10) == 0 for index in range(1, 600) if numbers[index] != numbers[index - 1])


def test_frames_do_not_depend_on_those_before(camera: SyntheticCamera) -> None:
    """A frame depends on the seed and its index alone, not on frames drawn before."""
    same, other = SyntheticCamera(SyntheticSpec(seed=9)), SyntheticCamera(SyntheticSpec(seed=6))
    camera.frame(999)
    np.testing.assert_array_equal(camera.frame(120), same.frame(120))
    assert (camera.frame(120) != other.frame(120)).any()


@pytest.mark.parametrize("index", [0, 30, 130, 230, 333, 480, 777])
def test_the_picture_shows_the_true_number(index: int, camera: SyntheticCamera, background: np.ndarray) -> None:
    """There are as many connected shapes before the background as true hands, none at the border."""
    image = camera.frame(index)
    assert image.shape == (480, 640, 3)
    assert image.dtype == np.uint8
    changed = (cv2.absdiff(image, background).max(axis=2) > 12).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    assert sum(area > 1000 for area in stats[1:, cv2.CC_STAT_AREA]) == camera.true_hands(index) == count - 1
    border = np.concatenate([changed[0], changed[-1], changed[:, 0], changed[:, -1]])
    assert not border.any()


def test_a_hand_fills_its_outline(background: np.ndarray) -> None:
    """However it leans, a hand covers its pose's outline to within a pixel, and as many pixels as upright."""
    one_hand = MovingHands(SyntheticSpec(seed=9, hands=(1, 1)))
    for index in range(0, 1000, 100):
        (pose,) = one_hand.scene.poses(index)
        sprite = one_hand.sprites[pose.sprite]
        outline = rotated(sprite.outline, pose.turn) * pose.scale + (pose.x, pose.y)
        image = background.copy()
        one_hand.draw(image, index)
        changed = cv2.absdiff(image, background).max(axis=2) > 6
        painted = np.argwhere(changed)[:, ::-1]
        np.testing.assert_allclose(painted.min(axis=0), outline.min(axis=0), atol=2)
        np.testing.assert_allclose(painted.max(axis=0), outline.max(axis=0), atol=2)
        assert changed.sum() == pytest.approx((sprite.image[:, :, 3] > 127).sum() * pose.scale**2, rel=0.06)
