"""Combines the two models' scores of a hand into one. Pure.

The palm model and the landmark model are two witnesses with different errors: the palm model takes faces, cups and
folds of cloth for palms, often with a high score; the landmark model rejects gloves and half hidden hands. If either had
a veto, hands that only the other recognises would be lost. So their log odds are added (as for independent witnesses),
each with a weight below one because they aren't independent, and a handicap compensates the landmark model's strictness:

    log odds of a hand = WEIGHT * (log odds of the palm + log odds of the presence) + HANDICAP

This is a logistic regression with two equal weights. Fitted to candidates in photos with and without hands, unchanged
and rotated, darkened, blurred and cropped, both weights are between 0.4 and 0.6. The handicap depends on the share of
photos with hands; it is chosen so that false alarms in photos without hands stay rare.
"""

from __future__ import annotations

import math

WEIGHT = 0.45
HANDICAP = 0.35

MIN_SCORE = 0.5
"""The default lowest score of a hand that is counted."""

MIN_PALM_SCORE = 0.2
"""Below this not even the highest presence makes a hand likely, so the landmark model isn't run."""

MIN_PRESENCE = 0.5
"""From this presence on the joints are trusted: they determine the box, and whether two detections are one hand."""

_MAX_LOG_ODDS = 7.0
"""About 0.999: higher probabilities of the models carry no information."""


def combined_score(palm: float, presence: float) -> float:
    """Returns the combined score of the palm model's and the landmark model's scores, all 0 to 1.

    >>> round(combined_score(palm=0.8, presence=0.15), 2)  # a half hidden hand
    0.55
    >>> round(combined_score(palm=0.8, presence=0.001), 2)  # a cup
    0.11
    """
    log_odds = WEIGHT * (_log_odds(palm) + _log_odds(presence)) + HANDICAP
    return 1 / (1 + math.exp(-log_odds))


def _log_odds(probability: float) -> float:
    limit = 1 / (1 + math.exp(_MAX_LOG_ODDS))
    bounded = min(max(probability, limit), 1 - limit)
    return math.log(bounded / (1 - bounded))
