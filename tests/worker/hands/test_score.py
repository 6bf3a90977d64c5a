"""The score that combines what the models say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hands.effort import LEVELS, Effort
from worker.hands.score import NO_PALM, Terms, log_odds, terms

probabilities = st.floats(0, 1)
perhaps = st.none() | probabilities


@pytest.mark.parametrize(
    ("palm", "visibility", "presence", "counts"),
    [
        (0.95, None, 0.99, True),
        (0.3, None, 0.95, True),  # a small or rotated palm that is certainly a hand
        (0.8, None, 0.15, False),  # a half hidden hand that only the palm model recognises
        (0.8, 0.9, 0.15, True),  # and the pose confirms
        (0.9, None, 0.001, False),  # a cup, a face
        (None, 0.95, 0.4, True),  # no palm, but the pose and nearly half of the landmark model
        (None, 0.95, 0.2, False),  # a fifth isn't enough
        (None, 0.95, 0.001, False),  # a hand that the pose only guesses
        (None, 0.3, 0.99, True),
        (0.1, 0.3, 0.001, False),
    ],
)
def test_the_score_decides(palm, visibility, presence, counts):
    """No model has a veto, and none decides alone."""
    level = LEVELS[Effort.THOROUGH]
    assert (level.weights.score(terms(palm, visibility, presence)) >= level.min_score) == counts


@pytest.mark.parametrize("effort", Effort)
@given(palm=probabilities, visibility=perhaps, presence=probabilities, more=probabilities)
def test_more_evidence_never_lowers_the_score(effort, palm, visibility, presence, more):
    """At each level the score is a probability that never falls when a model's score rises."""
    weights = LEVELS[effort].weights
    score = weights.score(terms(palm, visibility, presence))
    assert 0 < score < 1
    assert weights.score(terms(max(palm, more), visibility, presence)) >= score
    assert weights.score(terms(palm, visibility, max(presence, more))) >= score
    if visibility is not None:
        assert weights.score(terms(palm, max(visibility, more), presence)) >= score


@pytest.mark.parametrize("effort", Effort)
def test_the_lowest_palm_score_can_still_count(effort):
    """A palm at the threshold counts if the landmark model is certain, so the threshold loses no such hand."""
    level = LEVELS[effort]
    assert level.weights.score(terms(level.min_palm_alone, None, 0.999)) >= level.min_score


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.5, 0.0), (0.0, -5.0), (1.0, 6.0), (1e-9, -5.0), (0.9, math.log(9)), (0.9999, 6.0)]
)
def test_log_odds_are_bounded(probability, expected):
    """0 and 1 have the bounds."""
    assert log_odds(probability, (-5.0, 6.0)) == pytest.approx(expected)


def test_the_strongest_of_each_term():
    """Two candidates of one hand lend each other their stronger terms."""
    palm, pose = terms(0.9, None, 0.1), terms(None, 0.7, 0.6)
    assert pose.palm == NO_PALM
    assert palm.strongest(pose) == Terms(palm.palm, 1.0, pose.visibility, pose.presence)
    assert palm.strongest(palm) == palm
