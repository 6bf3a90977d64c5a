"""How much work is done for a picture: three levels, and what belongs to each. Pure.

More views find smaller hands, and the body's pose finds hands that show no palm. Each level has its own weights and
threshold, because what the models say together depends on which of them are asked. docs/counting.md has the levels'
measured accuracy and cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from worker.hands.score import Weights


class Effort(StrEnum):
    """A level of effort."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"


@dataclass(frozen=True)
class Level:
    """What is done at a level of effort."""

    palm_grids: tuple[int, ...]
    """Tiles per side of the grids in which palms are searched; 1 is the whole picture."""
    person_grids: tuple[int, ...]
    """Tiles per side of the grids in which persons are searched; empty: no poses."""
    crops: bool
    """Palms are searched in crops around the posed hands, too, and in the finest tiles only where no person is."""
    min_palm: float
    """Palms below this score aren't examined."""
    min_palm_alone: float
    """Palms below this score are examined only near a posed hand, which makes them likely."""
    weights: Weights
    """Of what the models say."""
    min_score: float
    """Lowest score of a hand that is counted. It balances missed hands and false boxes at this level's weights."""


# Rounded from fits to both halves of the pictures of docs/counting.md. With poses the threshold takes the bias's place.
_WITHOUT_POSE = Weights(palm=0.25, posed=0.0, visibility=0.0, presence=0.58, bias=0.69)
_WITH_POSE = Weights(palm=0.25, posed=1.5, visibility=0.35, presence=0.5)
# More person views find more persons, and more that aren't any, so that a pose alone says less.
_WITH_MANY_POSES = Weights(palm=0.25, posed=1.0, visibility=0.35, presence=0.5)

LEVELS: Mapping[Effort, Level] = {
    # Below 0.1, palms without a pose to confirm them are noise.
    Effort.FAST: Level((1, 2), (), False, 0.1, 0.1, _WITHOUT_POSE, 0.80),
    # With few views a small hand's palm often has a low score, and the pose confirms it.
    Effort.BALANCED: Level((1, 2), (1,), False, 0.07, 0.15, _WITH_POSE, 0.70),
    # With more views the better view of a hand has a higher score, and each view adds noise, so more is asked of a palm alone.
    Effort.THOROUGH: Level((1, 2, 3), (1, 3), True, 0.07, 0.2, _WITH_MANY_POSES, 0.65),
}
