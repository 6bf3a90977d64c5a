"""Which candidates are the same hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hands.candidate import Candidate
from worker.hands.duplicates import distinct_hands, same_hand
from worker.hands.effort import LEVELS, Effort

WEIGHTS = LEVELS[Effort.THOROUGH].weights
RNG = np.random.default_rng(7)
JOINTS = RNG.uniform(0, 100, (21, 2)).astype(np.float32)
JOINTS[0], JOINTS[9] = (50, 100), (50, 50)  # the wrist below the middle knuckle
OTHER_JOINTS = RNG.uniform(0, 100, (21, 2)).astype(np.float32)  # a hand in the same box that points elsewhere


def found(x=0.0, y=0.0, *, trusted=True, palm=0.9, palm_box=(30, 50, 80, 100), size=100.0, joints=JOINTS):
    """Returns a candidate of `size` pixels whose upper left corner is at x, y."""
    shift = np.array([x, y], np.float32)
    return Candidate(
        palm_box=(np.array(palm_box, np.float32) * size / 100 + np.tile(shift, 2)).astype(np.float32),
        hand_box=np.array([x, y, x + size, y + size], np.float32),
        points=(joints * size / 100 + shift).astype(np.float32),
        presence=0.99 if trusted else 0.3,
        right=True,
        palm=palm,
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # both trusted
        (found(), found(), True),
        (found(), found(20), True),  # boxes overlap by two thirds
        (found(), found(30, 30, joints=OTHER_JOINTS), False),  # box IoU 0.32, centres 0.42 apart, joints elsewhere
        (found(), found(24, joints=OTHER_JOINTS, palm=0.5), True),  # centres 0.24 apart
        (found(), found(50), False),
        (found(), found(300), False),
        (found(), found(20, 60, size=35, joints=OTHER_JOINTS, palm=0.5), True),  # a finger inside a hand
        (found(), found(20, 75, size=35, joints=OTHER_JOINTS, palm=0.5), False),  # mostly outside it
        (found(), found(45, palm_box=(60, 50, 110, 100), joints=OTHER_JOINTS), False),  # two sure palms, crossed hands
        (found(), found(24, palm_box=(90, 50, 140, 100)), True),  # their boxes overlap too much to be two
        # one trusted
        (found(), found(10, trusted=False), True),  # a palm inside the hand
        (found(), found(150, trusted=False), False),
        (found(), found(0, 70, trusted=False), True),  # below the wrist: the forearm
        (found(), found(0, 70), False),  # but not if it has trusted joints
        (found(), found(0, 250, trusted=False), False),  # too far away for the forearm
        (found(), found(70, 70, trusted=False), False),  # beside it
        (found(), found(48, trusted=False, palm_box=(60, 0, 100, 40)), True),  # centres 0.48 apart
        # none trusted
        (found(trusted=False), found(10, trusted=False), True),
        (found(trusted=False), found(45, trusted=False), True),  # centres 0.45 apart
        (found(trusted=False), found(55, trusted=False), False),  # box IoU 0.29
        (found(trusted=False), found(150, trusted=False), False),
    ],
)
def test_one_hand_or_two(one, other, same):
    """Trusted joints decide whether two candidates are one hand, else palms and boxes do; the order doesn't matter."""
    assert same_hand(one, other) is same
    assert same_hand(other, one) is same
    assert len(distinct_hands([one, other], WEIGHTS)) == (1 if same else 2)


def test_crossed_hands_with_sure_palms_are_two():
    """Boxes that overlap by 0.4 are one hand, unless both palms are sure and apart and the joints differ."""
    sure = (found(), found(40, joints=OTHER_JOINTS, palm_box=(60, 0, 100, 40)))
    assert not same_hand(*sure)
    assert same_hand(sure[0], replace(sure[1], palm=0.8))
    assert same_hand(sure[0], replace(sure[1], palm=None))


def test_trusted_joints_are_preferred_to_a_better_score():
    """Of several candidates of one hand the surest with trusted joints is kept, with the strongest terms of all."""
    guess = replace(found(trusted=False, palm=0.999), visibility=0.9)
    hands = [guess, found(palm=0.7), found(5, palm=0.8)]
    (kept,) = distinct_hands(hands, WEIGHTS)
    assert kept.best is hands[2]
    assert kept.terms == guess.terms.strongest(hands[2].terms)
    assert WEIGHTS.score(kept.terms) > WEIGHTS.score(hands[2].terms)


def test_rejected_candidates_take_no_part():
    """A candidate below the lowest score is dropped, and lends nothing to a hand."""
    rejected = replace(found(trusted=False, palm=0.05), presence=0.01)
    assert distinct_hands([rejected], WEIGHTS) == []
    (kept,) = distinct_hands([found(palm=0.9), rejected], WEIGHTS)
    assert kept.terms == found(palm=0.9).terms


def test_nothing_found():
    """No candidates give no hands."""
    assert distinct_hands([], WEIGHTS) == []


def test_coinciding_joints_have_no_forearm():
    """A hand whose joints coincide has no direction, so nothing is taken for its forearm."""
    assert len(distinct_hands([found(joints=JOINTS * 0), found(300, trusted=False)], WEIGHTS)) == 2


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300), st.booleans(), st.floats(0.1, 1)), max_size=6))
def test_no_two_of_the_kept_are_the_same_hand(places):
    """Whatever the candidates, those that are kept are all different."""
    kept = distinct_hands([found(x, y, trusted=trusted, palm=palm) for x, y, trusted, palm in places], WEIGHTS)
    assert not any(same_hand(a.best, b.best) for i, a in enumerate(kept) for b in kept[:i])
