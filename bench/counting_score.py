"""Scores counted hands against annotated ones, and fits a level's weights to pictures. Pure numpy.

A box is right if its centre lies within 1.2 radii of an annotated hand that no earlier box has; the closest such hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from worker.hands.score import Terms, Weights

REACH = 1.2
"""Radii of an annotated hand within which a box's centre must lie."""


class Circle(NamedTuple):
    """An annotated hand; pixels."""

    x: float
    y: float
    radius: float
    side: str
    """L, R, or empty if it wasn't annotated."""


class Box(NamedTuple):
    """A counted hand, by its box's centre; pixels."""

    x: float
    y: float
    is_right: bool


@dataclass(frozen=True)
class Figures:
    """Sums over pictures."""

    pictures: int = 0
    hands: int = 0
    boxes: int = 0
    hits: int = 0
    exact: int = 0
    """Pictures with the right count."""
    count_error: int = 0
    """Sum over pictures of |counted - annotated|."""
    sides: int = 0
    """Hits whose side was annotated."""
    right_sides: int = 0
    empty: int = 0
    """Pictures without hands."""
    false_alarms: int = 0
    """Boxes in these."""

    def __add__(self, other: Figures) -> Figures:
        """Returns the sums over both."""
        return Figures(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def precision(self) -> float:
        """Share of boxes that are right."""
        return self.hits / max(1, self.boxes)

    @property
    def recall(self) -> float:
        """Share of hands that are found."""
        return self.hits / max(1, self.hands)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.hits / max(1, self.boxes + self.hands)

    def row(self) -> str:
        """Returns the figures under HEADER."""
        return (
            f"{self.precision:6.2f}{self.recall:6.2f}{self.f1:7.3f}{self.exact / max(1, self.pictures):7.2f}"
            f"{self.count_error / max(1, self.pictures):7.2f}{self.right_sides / max(1, self.sides):7.2f}"
            f"{self.false_alarms:6d}/{self.empty}"
        )


HEADER = f"{'P':>6}{'R':>6}{'F1':>7}{'exact':>7}{'error':>7}{'sides':>7}{'alarms':>8}"


def match(boxes: Iterable[Box], circles: Sequence[Circle]) -> list[int | None]:
    """Returns for each box, in order, the index of the annotated hand that it is."""
    free = set(range(len(circles)))
    matched: list[int | None] = []
    for box in boxes:
        near = [(math.hypot(box.x - circles[i].x, box.y - circles[i].y), i) for i in free]
        near = [(apart, i) for apart, i in near if apart <= REACH * circles[i].radius]
        best = min(near)[1] if near else None
        free.discard(-1 if best is None else best)
        matched.append(best)
    return matched


def figures(boxes: Sequence[Box], circles: Sequence[Circle]) -> Figures:
    """Returns the figures of one picture."""
    hits = [(box, circles[i]) for box, i in zip(boxes, match(boxes, circles), strict=True) if i is not None]
    sided = [(box, circle) for box, circle in hits if circle.side]
    return Figures(
        pictures=1,
        hands=len(circles),
        boxes=len(boxes),
        hits=len(hits),
        exact=len(boxes) == len(circles),
        count_error=abs(len(boxes) - len(circles)),
        sides=len(sided),
        right_sides=sum(box.is_right == (circle.side == "R") for box, circle in sided),
        empty=not circles,
        false_alarms=0 if circles else len(boxes),
    )


Setting = tuple[Weights, float]
"""Weights and a threshold."""

RIDGE = 1.0
"""Strength of the fit's penalty on large weights: there are only some hundred hands to fit to."""

_STEPS = 30
_THRESHOLDS = tuple(step / 40 for step in range(16, 38))


def fit_weights(hands: Sequence[tuple[Terms, bool]], *, posed: bool) -> Weights:
    """Fits the weights by a logistic regression with a ridge penalty (Newton's method).

    Args:
        hands: what the models say, and whether it is a hand.
        posed: whether the level has poses; without them two weights are 0.
    """
    names = ["palm", "posed", "visibility", "presence"] if posed else ["palm", "presence"]
    inputs = np.array([[getattr(terms, name) for name in names] + [1.0] for terms, _ in hands])
    targets = np.array([float(is_hand) for _, is_hand in hands])
    penalty = np.diag([RIDGE] * len(names) + [0.0])
    fitted = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-inputs @ fitted))
        slope = inputs.T @ (targets - likely) - penalty @ fitted
        curvature = (inputs * (likely * (1 - likely))[:, None]).T @ inputs + penalty + 1e-9 * np.eye(len(fitted))
        fitted = fitted + np.linalg.solve(curvature, slope)
    weights = dict(zip([*names, "bias"], fitted.tolist(), strict=True))
    return Weights(**{"posed": 0.0, "visibility": 0.0, **weights})


def fit_threshold(total: Callable[[float], Figures]) -> float:
    """Returns the middle of the thresholds with the highest F1."""
    scores = {threshold: total(threshold).f1 for threshold in _THRESHOLDS}
    best = [threshold for threshold, f1 in scores.items() if f1 >= max(scores.values()) - 1e-9]
    return best[len(best) // 2]
