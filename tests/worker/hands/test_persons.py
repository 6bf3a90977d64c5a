"""Persons: the interpretation of the model's output, and each person once."""

import numpy as np
import pytest

from worker.hands.anchors import PERSON_INPUT, person_anchors
from worker.hands.persons import MAX_PERSONS, Persons, decode_persons, distinct_persons

ANCHORS = person_anchors()


def persons(*rows):
    """Returns persons of (x, y, upper body, score): the shoulders' centre, and how far the upper body reaches."""
    points = [[(x, y + reach), (x, y), (x, y), (x, y - reach)] for x, y, reach, _ in rows]
    return Persons(np.array(points, np.float32).reshape(-1, 4, 2), np.array([row[3] for row in rows], np.float32))


@pytest.mark.parametrize(
    ("row", "x", "y"),
    [
        (0, 4, 4),  # the first cell of stride 8, twice
        (2, 12, 4),
        (56, 4, 12),  # 28 cells of 2 anchors per row
        (1568, 8, 8),  # the first cell of stride 16, twice
        (1960, 16, 16),  # the first cell of stride 32, six times
        (2253, 208, 208),
    ],
)
def test_anchors(row, x, y):
    """The anchors are the centres of the cells, row by row, in the order of the model's outputs."""
    assert ANCHORS.shape == (2254, 2)
    np.testing.assert_allclose(ANCHORS[row] * PERSON_INPUT, [x, y], atol=1e-4)


def test_decoding():
    """Points are relative to the anchor; of overlapping boxes the surest is kept; unlikely persons are dropped."""
    regressors, logits = np.zeros((2254, 12), np.float32), np.full(2254, -500, np.float32)
    for row, logit, width in ((2, 2.0, 20), (3, 3.0, 22), (1000, 1.0, 20), (1200, -1.0, 20)):
        logits[row] = logit
        regressors[row] = [0, 0, width, width, *range(8)]
    found = decode_persons(regressors, logits, ANCHORS, 0.5)
    np.testing.assert_allclose(found.scores, [0.9526, 0.7311], atol=1e-4)
    np.testing.assert_allclose(found.points[0], np.arange(8).reshape(4, 2) + np.array([12, 4]), atol=1e-4)


def test_decoding_nothing():
    """Without a likely person there are none, of the right shape."""
    found = decode_persons(np.zeros((2254, 12), np.float32), np.full(2254, -1e9, np.float32), ANCHORS, 0.5)
    assert len(found) == 0
    assert found.points.shape == (0, 4, 2)


@pytest.mark.parametrize(
    ("views", "scores"),
    [
        ([], []),
        ([persons()], []),
        ([persons((100, 100, 50, 0.8)), persons((110, 100, 50, 0.9))], [0.9]),  # the same person in two views
        ([persons((100, 100, 50, 0.8)), persons((126, 100, 50, 0.9))], [0.9, 0.8]),  # half an upper body apart
        ([persons((100, 100, 50, 0.8), (110, 100, 10, 0.9))], [0.9]),  # the larger one's upper body counts
        ([persons((100, 100, 0, 0.8), (100, 100, 0, 0.9))], [0.9, 0.8]),  # persons without a size are never the same
    ],
)
def test_each_person_once(views, scores):
    """Persons whose shoulders are close are the same, and the surest is kept."""
    np.testing.assert_allclose(distinct_persons(views).scores, scores)


def test_a_crowd_is_bounded():
    """The surest ones are kept."""
    crowd = persons(*((100 * number, 0, 50, 0.5 + number / 100) for number in range(20)))
    np.testing.assert_allclose(distinct_persons([crowd]).scores, sorted(crowd.scores, reverse=True)[:MAX_PERSONS])
