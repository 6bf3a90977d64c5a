"""The comparison of the detector's engines."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the other engine is torch (the extra `gpu`)")

from bench.detector_engines import Comparison, Explained, matched
from bench.shaken_engine import GREY_LEVELS, LOG_ODDS, PIXELS, ShakenEngine, _ShakenPyramid
from worker.hands.detection import Hands
from worker.hands.geometry import View
from worker.hands.landmarks import LANDMARKS
from worker.hands.palm import PALMS
from worker.hands.poses import POSE_JOINTS, POSES
from worker.hands.pyramid import Pyramid

BOX, ELSEWHERE = (10, 10, 110, 110), (300, 10, 400, 110)


def hands(*boxes, right=True):
    """Returns hands with these boxes."""
    count = len(boxes)
    return Hands(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, right),
        np.full(count, 0.9, np.float32),
        np.full((count, 21, 2), np.nan, np.float32),
    )


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (hands(), hands(), []),
        (hands(BOX), hands(BOX), [True]),
        (hands((10, 10, 110, 112)), hands(BOX), [True]),
        (hands((10, 10, 110, 130)), hands(BOX), [False]),
        (hands(BOX, right=False), hands(BOX), [False]),
        (hands(ELSEWHERE), hands(BOX), [False]),
        (hands(ELSEWHERE, BOX), hands(BOX, ELSEWHERE), [True, True]),  # the order doesn't matter
    ],
)
def test_the_same_hands(found, expected, same):
    """Hands are the same if their boxes overlap nearly all, and they are of the same side."""
    assert [pair.same for pair in matched(found, expected)] == same
    assert Comparison().add("picture", found, expected) == all(same)


def test_another_count_is_another_picture():
    """It is named once."""
    compared = Comparison()
    assert not compared.add("picture", hands(BOX), hands(BOX, ELSEWHERE))
    assert (compared.pictures, compared.hands, compared.other_counts) == (1, 2, ["picture"])


@pytest.mark.parametrize(
    ("found", "expected", "repetitions", "explained"),
    [
        (hands(BOX), hands(), [hands(), hands(BOX)], [False, True]),  # LiteRT finds it, too
        (hands(), hands(BOX), [hands(BOX), hands()], [False, True]),  # LiteRT loses it, too
        (
            hands(ELSEWHERE),
            hands(BOX),
            [hands(), hands(BOX, ELSEWHERE)],
            [False, True],
        ),  # first the one, then the other
        (hands(BOX), hands(), [hands(ELSEWHERE), hands(BOX, right=False)], [False, False]),  # it finds others
    ],
)
def test_hands_are_explained_one_by_one(found, expected, repetitions, explained):
    """A picture is explained once each hand of one engine alone was found, or lost, in some repetition."""
    left = Explained.of(found, expected)
    assert [left.repeated(each) for each in repetitions] == explained


def log_odds(probabilities):
    """Returns the log odds of probabilities, as float64."""
    inside = probabilities.astype(np.float64)
    return np.log(inside / (1 - inside))


def test_numbers_stay_within_the_bounds():
    """Pixels and log odds are moved, by no more than the bounds; an anchor's number isn't."""
    shaken = ShakenEngine(None, seed=1)  # no model is loaded before a picture is searched
    random, rounding = np.random.default_rng(0), 1e-4
    rows = random.uniform(-5, 200, (50, 20)).astype(np.float32)
    moved = np.abs(shaken._shaken_anchors(PALMS, rows) - rows)
    assert not moved[:, 0].any()
    assert 0 < moved[:, 1].max() <= LOG_ODDS + rounding
    assert LOG_ODDS < moved[:, 2:].max() <= PIXELS + rounding
    for network, numbers, likely in ((LANDMARKS, 63, 2), (POSES, POSE_JOINTS * 5, 1)):
        row = np.concatenate([random.uniform(0, 200, numbers), random.uniform(0.1, 0.9, likely)]).astype(np.float32)
        answer = shaken._shaken_crop(network, row)
        assert 0 < np.abs(answer[:numbers] - row[:numbers]).max() <= PIXELS + rounding
        assert 0 < np.abs(log_odds(answer[numbers:]) - log_odds(row[numbers:])).max() <= LOG_ODDS + rounding


def test_few_pixels_are_off_by_a_grey_level():
    """The inputs differ in that share of their values at most, and the picture stays as it is."""
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    before, view = image.copy(), View(0, 0, 400, 300)
    plain = Pyramid(image).letterboxed(view, 192).astype(int)
    moved = _ShakenPyramid(Pyramid(image), np.random.default_rng(1)).letterboxed(view, 192).astype(int)
    assert np.abs(moved - plain).max() == 1
    assert 0 < np.count_nonzero(moved != plain) <= GREY_LEVELS * plain.size + 1
    assert np.array_equal(image, before)
