"""A detection of a hand, perhaps one of several of the same hand. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from worker.hands.geometry import Floats
from worker.hands.score import TRUSTED_PRESENCE, Terms, terms


@dataclass(frozen=True, eq=False)
class Candidate:
    """One detection of a hand; coordinates are the picture's pixels."""

    palm_box: Floats
    """(4,) x0, y0, x1, y1 of the palm without the fingers."""
    hand_box: Floats
    """(4,) x0, y0, x1, y1 of the whole hand."""
    points: Floats
    """(21, 2) the joints as the landmark model sees them."""
    presence: float
    """The landmark model's presence, 0 to 1."""
    right: bool
    """The person's own right hand."""
    palm: float | None = None
    """The palm model's score; None if only a pose shows the hand."""
    visibility: float | None = None
    """The pose's visibility of this hand; None if no pose has it."""

    @property
    def trusted(self) -> bool:
        """Whether the joints are trusted."""
        return self.presence >= TRUSTED_PRESENCE

    @property
    def joints(self) -> Floats | None:
        """(21, 2) the joints if they are trusted."""
        return self.points if self.trusted else None

    @cached_property
    def terms(self) -> Terms:
        """What the models say about it."""
        return terms(self.palm, self.visibility, self.presence)


def side(box: Floats) -> float:
    """Returns the longer side of a (4,) box."""
    x0, y0, x1, y1 = box.tolist()
    return float(max(x1 - x0, y1 - y0))


def centre(box: Floats) -> Floats:
    """Returns the (2,) centre of a (4,) box."""
    return (box[:2] + box[2:]) * np.float32(0.5)


def around(points: Floats) -> Floats:
    """Returns the (4,) box around (N, 2) points."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
