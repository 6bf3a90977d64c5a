"""From what the two models say about a hand to one score. Pure.

The palm model and the landmark model are two witnesses who err differently: the palm model takes faces, cups and folds
of cloth for palms, and is then often sure of it; the landmark model refuses gloves and half hidden hands. A veto by
either loses what only the other one sees. So their log odds are added (as for independent witnesses), with less weight
than one each because they aren't independent, and with a handicap for the landmark model's strictness:

    log odds of a hand = WEIGHT * (log odds of the palm + log odds of the presence) + HANDICAP

That is a logistic regression with two equal weights. Fitted to candidates in photos with and without hands, as they
were and turned, darkened, blurred and cut out, both weights come out between 0.4 and 0.6. The handicap depends on how
many of the photos have hands; it is set so that false alarms in photos without hands stay rare.
"""

from __future__ import annotations

import math

WEIGHT = 0.45
HANDICAP = 0.35

MIN_SCORE = 0.5
"""The default least score of a hand that is counted."""

MIN_PALM_SCORE = 0.2
"""Below this not even a perfect presence makes a hand likely, so the landmark model isn't asked."""

MIN_PRESENCE = 0.5
"""From here on the joints are trusted: they give the box, and tell two hands from one found twice."""

_MAX_LOG_ODDS = 7.0
"""About 0.999: beyond, the models' own certainty means nothing."""


def combined_score(palm: float, presence: float) -> float:
    """Combine the palm model's and the landmark model's scores, each 0 to 1, into one of 0 to 1.

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
