"""The arrays that a detector returns."""

import numpy as np
import pytest

from worker.hands.detection import Hands

GOOD = {
    "boxes": np.array([[0, 0, 10, 10], [5, 5, 6, 7]], np.float32),
    "is_right": np.array([True, False]),
    "scores": np.array([0.9, 0.4], np.float32),
    "keypoints": np.stack([np.zeros((21, 2)), np.full((21, 2), np.nan)]).astype(np.float32),
}
HALF_NAN = GOOD["keypoints"].copy()
HALF_NAN[0, 3] = np.nan


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("boxes", GOOD["boxes"].astype(np.float64), "boxes"),
        ("boxes", np.array([[0, 0, 10, 10], [5, 5, 5, 7]], np.float32), "x0 < x1"),
        ("boxes", np.array([[0, 0, 10, 10], [5, 5, np.inf, 7]], np.float32), "finite"),
        ("is_right", np.array([1, 0]), "is_right"),
        ("is_right", np.array([True]), "is_right"),
        ("scores", np.array([0.9, 1.1], np.float32), "score"),
        ("scores", np.array([0.9, np.nan], np.float32), "score"),
        ("keypoints", np.zeros((2, 20, 2), np.float32), "keypoints"),
        ("keypoints", HALF_NAN, "NaN"),
    ],
)
def test_invalid_arrays_are_refused(field, value, says):
    """Arrays that don't match their documentation are a ValueError."""
    with pytest.raises(ValueError, match=says):
        Hands(**{**GOOD, field: value})


def test_rows_stay_together():
    """Length, selection and filtering by score keep rows together; there may be no hands."""
    hands = Hands(**GOOD)
    assert len(hands) == 2
    assert hands.above(0.5).boxes.tolist() == [[0, 0, 10, 10]]
    assert hands[np.array([1, 0])].is_right.tolist() == [False, True]
    assert len(hands[:0]) == len(Hands.empty()) == 0


def test_another_size():
    """What is in pixels grows with the picture, and nothing else changes."""
    hands = Hands(**GOOD)
    half = hands.scaled(0.5)
    assert half.boxes.tolist() == [[0, 0, 5, 5], [2.5, 2.5, 3, 3.5]]
    assert (half.is_right.tolist(), half.scores.tolist()) == (hands.is_right.tolist(), hands.scores.tolist())
    assert np.array_equal(half.keypoints, hands.keypoints * np.float32(0.5), equal_nan=True)
