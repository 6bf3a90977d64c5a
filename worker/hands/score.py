"""Combines what the models say about a hand into its score. Pure.

Up to four models with different errors contribute to a hand's score. The palm model takes faces, cups and folds of cloth
for palms. The landmark model rejects gloves and half hidden hands. The person and pose models know where a body's hands
must be, but not whether they are in view. If one of them alone could reject a hand, hands that only the others recognise
would be lost. So their log odds are added, each with a weight below one because the models aren't independent:

    log odds of a hand = bias + w1 * L(palm) + w2 * [a pose has a hand here] + w3 * L(the pose's visibility) + w4 * L(presence)

L(p) = ln(p / (1 - p)), bounded. This is a logistic regression; `python -m bench.counting` fits the weights to one half of
a set of pictures and scores the other half with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NO_PALM = -4.0
"""L(palm) of a hand that only a pose shows: about the log odds of a palm score of 0.02, below any that is examined."""

PALM_LIMITS = (-7.0, 7.0)
"""Bounds of L(palm). 7 is a probability of about 0.999: higher ones carry no information."""

PRESENCE_LIMITS = (-5.0, 6.0)
"""Bounds of L(presence). A crop of a glove has a presence near 0, and further below it only differs in noise."""

VISIBILITY_LIMITS = (-2.0, 6.0)
"""Bounds of L(visibility). A posed hand below 0.3 (log odds -0.85) isn't used, so the lower one is a safeguard."""

TRUSTED_PRESENCE = 0.5
"""From this presence on the joints are trusted: they determine the box, and whether two detections are one hand."""


@dataclass(frozen=True)
class Terms:
    """What the models say about one hand, in bounded log odds."""

    palm: float
    """L(palm score), NO_PALM without a palm."""
    posed: float
    """1 if a pose has a hand here, else 0."""
    visibility: float
    """L(the pose's visibility), 0 without a pose."""
    presence: float
    """L(presence)."""

    def strongest(self, other: Terms) -> Terms:
        """Returns the higher of each term: both detections are evidence of the same hand."""
        return Terms(
            max(self.palm, other.palm),
            max(self.posed, other.posed),
            max(self.visibility, other.visibility),
            max(self.presence, other.presence),
        )


@dataclass(frozen=True)
class Weights:
    """The weights of the terms."""

    palm: float
    posed: float
    visibility: float
    presence: float
    bias: float = 0.0

    def score(self, terms: Terms) -> float:
        """Returns the score of a hand, 0 to 1.

        >>> weights = Weights(palm=0.25, posed=1.5, visibility=0.35, presence=0.5)
        >>> round(weights.score(terms(palm=0.1, visibility=None, presence=0.001)), 2)  # a cup
        0.05
        >>> round(weights.score(terms(palm=None, visibility=0.95, presence=0.3)), 2)  # a hand that the pose found
        0.74
        """
        log_odds = (
            self.bias
            + self.palm * terms.palm
            + self.posed * terms.posed
            + self.visibility * terms.visibility
            + self.presence * terms.presence
        )
        return 1 / (1 + math.exp(-log_odds))


def terms(palm: float | None, visibility: float | None, presence: float) -> Terms:
    """Returns the terms of a hand.

    Args:
        palm: the palm model's score; None if it didn't find the hand.
        visibility: the pose's visibility of the hand; None if no pose has it.
        presence: the landmark model's presence.
    """
    return Terms(
        palm=NO_PALM if palm is None else log_odds(palm, PALM_LIMITS),
        posed=0.0 if visibility is None else 1.0,
        visibility=0.0 if visibility is None else log_odds(visibility, VISIBILITY_LIMITS),
        presence=log_odds(presence, PRESENCE_LIMITS),
    )


def log_odds(probability: float, limits: tuple[float, float]) -> float:
    """Returns ln(p / (1 - p)) of a probability from 0 to 1, bounded."""
    low, high = limits
    if probability <= 0:
        return low
    if probability >= 1:
        return high
    return min(max(math.log(probability / (1 - probability)), low), high)
