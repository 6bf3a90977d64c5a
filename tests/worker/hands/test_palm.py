"""Anchors, the palm model's input, and the interpretation of its output."""

import numpy as np
import pytest
from support.models.synthetic_hands import scene

from worker.hands.anchors import PALM_INPUT, palm_anchors
from worker.hands.geometry import View
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.networks import answered
from worker.hands.palm import Palms, decode, group_palms, merge_overlapping, search_palms


def palms(*rows):
    """Returns palms of (x0, y0, x1, y1, score); all points of a palm are in its upper left corner."""
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    points = np.repeat(boxes[:, None, :2], 7, axis=1)
    return Palms(boxes, points, np.array([row[4] for row in rows], np.float32))


@pytest.mark.parametrize(
    ("row", "x", "y"),
    [
        (0, 4, 4),  # the first cell of stride 8, twice
        (1, 4, 4),
        (2, 12, 4),  # then along the row
        (48, 4, 12),  # 24 cells of 2 anchors per row
        (1151, 188, 188),
        (1152, 8, 8),  # the first cell of stride 16, six times
        (1157, 8, 8),
        (1158, 24, 8),
        (2015, 184, 184),
    ],
)
def test_anchors(row, x, y):
    """The anchors are the centres of the cells, row by row, in the order of the model's outputs."""
    anchors = palm_anchors()
    assert anchors.shape == (2016, 2)
    np.testing.assert_allclose(anchors[row] * PALM_INPUT, [x, y], atol=1e-4)


def test_decode_places_boxes_and_points_around_the_anchor():
    """Centres and points are relative to the anchor, sizes are not; unlikely palms are dropped."""
    regressors, logits = np.zeros((2016, 18), np.float32), np.full(2016, -500, np.float32)
    logits[2] = 2.0
    regressors[2] = [1, 2, 20, 10, *range(14)]
    found = decode(regressors, logits, palm_anchors(), min_score=0.5)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes, [[3, 1, 23, 11]])
    np.testing.assert_allclose(found.points[0, 0], [12, 5])
    np.testing.assert_allclose(found.points[0, 6], [24, 17])
    assert found.scores[0] == pytest.approx(0.8808, abs=1e-4)


def test_decode_of_extreme_logits():
    """Extreme log odds are a score of 1 or 0, without an overflow."""
    logits = np.full(2016, -1e9, np.float32)
    logits[0] = 1e9
    found = decode(np.zeros((2016, 18), np.float32), logits, palm_anchors(), min_score=0.0)
    assert found.scores[0] == 1
    assert found.scores[1:].max() < 1e-30


def test_overlapping_palms_are_merged_to_their_weighted_mean():
    """Overlapping boxes of a view are merged by score, with the highest of the scores; the others are unchanged."""
    found = palms((0, 0, 10, 10, 0.3), (2, 0, 12, 10, 0.9), (100, 0, 110, 10, 0.5), (0, 0, 10, 10, 0.4))
    merged, views = merge_overlapping(found, np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(merged.boxes, [[1.5, 0, 11.5, 10], [100, 0, 110, 10], [0, 0, 10, 10]], atol=1e-5)
    np.testing.assert_allclose(merged.points[0], [[1.5, 0]] * 7, atol=1e-5)
    np.testing.assert_allclose(merged.scores, [0.9, 0.5, 0.4])
    assert views.tolist() == [0, 0, 1]


@pytest.mark.parametrize("rows", [(), ((5, 5, 5, 5, 0.9),), ((5, 5, 5, 5, 0.9), (5, 5, 5, 5, 0.8))])
def test_merging_ends_even_without_areas(rows):
    """Without palms the result is empty, and boxes without an area don't loop forever."""
    merged, views = merge_overlapping(palms(*rows), np.zeros(len(rows), np.intp))
    assert len(merged) == len(views) == len(rows)
    assert merged.boxes.shape == (len(rows), 4)
    assert merged.points.shape == (len(rows), 7, 2)


def test_palms_of_several_views_are_grouped():
    """Of palms that overlap by more than half of their union the surest is kept; the others are alone."""
    found = group_palms(palms((0, 0, 10, 10, 0.5), (50, 0, 60, 10, 0.6), (1, 0, 11, 10, 0.9), (5, 0, 15, 10, 0.4)))
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.4])
    assert len(group_palms(palms())) == 0


def test_a_view_is_a_part_of_the_picture(models):
    """Palms found in a view have coordinates of the whole picture."""
    image, [box] = scene(((480, 300), 90, 0, True))
    with LiteRtEngine(models).open(image) as answer:
        found = answered(search_palms(640, 480, [View(320, 120, 320, 360)], min_score=0.5), answer)
    assert len(found) == 1
    x, y = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    assert box[0] < x < box[2]
    assert box[1] < y < box[3]
