"""The score that combines both models' scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hands.decision import MIN_PALM_SCORE, MIN_SCORE, combined_score

probabilities = st.floats(0, 1)


@pytest.mark.parametrize(
    ("palm", "presence", "counts"),
    [
        (0.95, 0.99, True),
        (0.3, 0.95, True),  # a small or rotated palm that is certainly a hand
        (0.8, 0.15, True),  # a hand with a low presence
        (0.9, 0.001, False),  # a cup, a face
        (0.6, 0.0, False),
        (0.2, 0.2, False),
        (0.0, 0.0, False),
        (1.0, 1.0, True),
    ],
)
def test_the_score_decides(palm, presence, counts):
    """Neither model has a veto, and neither decides alone."""
    assert (combined_score(palm, presence) >= MIN_SCORE) == counts


@given(palm=probabilities, presence=probabilities, more=probabilities)
def test_more_evidence_never_lowers_the_score(palm, presence, more):
    """The score is a probability that never falls when either model's score rises."""
    score = combined_score(palm, presence)
    assert 0 < score < 1
    assert combined_score(max(palm, more), presence) >= score
    assert combined_score(palm, max(presence, more)) >= score


def test_the_lowest_palm_score_can_still_count():
    """A palm at the threshold counts if the landmark model is certain, so the threshold loses no such hand."""
    assert combined_score(MIN_PALM_SCORE, 0.99) >= MIN_SCORE
