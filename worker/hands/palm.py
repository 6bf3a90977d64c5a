"""The palm model: finds palms in a view of the picture, with their wrists and knuckles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from worker.hands.anchors import PALM_INPUT, palm_anchors
from worker.hands.geometry import Floats, View, ious

PALM_POINTS = 7
"""Points per palm: wrist, knuckles of index, middle, ring and little finger, base and knuckle of the thumb."""

WRIST, MIDDLE_KNUCKLE = 0, 2
"""Rows of a palm's points that determine the hand's direction."""

JOINT_OF_POINT = (0, 5, 9, 13, 17, 1, 2)
"""The hand joint (of 21) at each palm point."""

_SAME_PALM = 0.3
"""Boxes of one view that overlap more than this (intersection over union) are the same palm."""

_LOGIT_LIMIT = 80.0
"""Keeps exp() finite in float32; the score reaches 0 or 1 far earlier."""


@dataclass(frozen=True, eq=False)
class Palms:
    """Palms found in a picture: parallel arrays, with coordinates in the picture's pixels."""

    boxes: Floats
    """(N, 4) boxes around the palm without the fingers, as x0, y0, x1, y1."""
    points: Floats
    """(N, 7, 2) the palm's points as x, y."""
    scores: Floats
    """(N,) the model's probability of a palm."""

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Palms:
        """Returns the palms that a slice, a mask or indices select."""
        return Palms(self.boxes[rows], self.points[rows], self.scores[rows])


def concatenate(parts: Sequence[Palms]) -> Palms:
    """Returns the palms of several views, all in the picture's pixels, as one."""
    return Palms(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def letterboxed(image: NDArray[np.uint8], view: View) -> NDArray[np.float32]:
    """Crops a view of a BGR picture for the palm model.

    Returns:
        (1, 192, 192, 3) float32, RGB in 0..1, with black bars if the view isn't square.
    """
    content = image[view.y : view.y + view.height, view.x : view.x + view.width]
    x, y, width, height = view.letterbox(PALM_INPUT)
    # INTER_AREA averages pixels when it shrinks; sampled single pixels of a large picture would turn texture into noise.
    shrinks = view.side > PALM_INPUT
    small = cv2.resize(content, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    canvas = np.zeros((1, PALM_INPUT, PALM_INPUT, 3), np.float32)
    canvas[0, y : y + height, x : x + width] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    canvas *= 1 / 255
    return canvas


def decode(regressors: Floats, logits: Floats, anchors: Floats, min_score: float) -> Palms:
    """Converts the palm model's raw outputs to palms, in the pixels of its input.

    Args:
        regressors: (2016, 18) per anchor: centre x, y, width, height, then 7 points x, y; in input pixels, all but
            width and height relative to the anchor's centre.
        logits: (2016,) log odds of a palm at the anchor.
        anchors: (2016, 2) centres in 0..1.
        min_score: palms below this probability are dropped.

    Returns:
        The palms, several for each hand: not yet merged.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)))
    keep = scores >= min_score
    raw, origin = regressors[keep], anchors[keep] * PALM_INPUT
    centres = raw[:, 0:2] + origin
    halves = np.abs(raw[:, 2:4]) / 2
    points = raw[:, 4:].reshape(-1, PALM_POINTS, 2) + origin[:, None]
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    return Palms(boxes.astype(np.float32), points.astype(np.float32), scores[keep].astype(np.float32))


def merge_overlapping(palms: Palms) -> Palms:
    """Merges overlapping palms into their mean, weighted by score, with the highest of their scores.

    The mean over neighbouring anchors is more stable than the best anchor alone.

    Returns:
        The merged palms, the surest first.
    """
    left = np.argsort(-palms.scores, kind="stable")
    boxes, points, scores = [], [], []
    while len(left):
        best = left[0]
        same = ious(palms.boxes[best : best + 1], palms.boxes[left])[0] > _SAME_PALM
        same[0] = True  # a box without area doesn't overlap even itself
        members = left[same]
        weights = palms.scores[members] / palms.scores[members].sum()
        boxes.append(np.tensordot(weights, palms.boxes[members], axes=1))
        points.append(np.tensordot(weights, palms.points[members], axes=1))
        scores.append(palms.scores[best])
        left = left[~same]
    return Palms(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(points, np.float32).reshape(-1, PALM_POINTS, 2),
        np.array(scores, np.float32),
    )


class PalmModel:
    """The palm model on LiteRT. Only one thread may use it at a time."""

    def __init__(self, model: Path, num_threads: int = 1) -> None:
        self._interpreter = Interpreter(model_path=str(model), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        # The last axis identifies an output: 18 numbers per anchor, or one score.
        by_width = {int(output["shape"][-1]): output["index"] for output in self._interpreter.get_output_details()}
        self._regressors, self._logits = by_width[4 + 2 * PALM_POINTS], by_width[1]
        self._anchors = palm_anchors()

    def find(self, image: NDArray[np.uint8], view: View, min_score: float) -> Palms:
        """Finds the palms in a view of a BGR picture.

        Returns:
            The palms in the picture's pixels, one per hand, the surest first.
        """
        self._interpreter.set_tensor(self._input, letterboxed(image, view))
        self._interpreter.invoke()
        regressors = self._interpreter.get_tensor(self._regressors)[0]
        logits = self._interpreter.get_tensor(self._logits)[0, :, 0]
        palms = merge_overlapping(decode(regressors, logits, self._anchors, min_score))
        corners = view.to_image(palms.boxes.reshape(-1, 2, 2), PALM_INPUT)
        return Palms(corners.reshape(-1, 4), view.to_image(palms.points, PALM_INPUT), palms.scores)
