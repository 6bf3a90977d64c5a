"""The grids of anchors at which the palm model and the person model look. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PALM_INPUT = 192
"""Side of the palm model's square input, in pixels."""

PERSON_INPUT = 224
"""Side of the person model's square input, in pixels."""

# (stride in input pixels, anchors per cell), as the models were trained. Scales that share a stride are one entry.
_PALM_LAYERS = ((8, 2), (16, 6))
_PERSON_LAYERS = ((8, 2), (16, 2), (32, 6))


def palm_anchors() -> NDArray[np.float32]:
    """Returns the (2016, 2) anchors of the palm model, as :func:`anchors` does."""
    return anchors(PALM_INPUT, _PALM_LAYERS)


def person_anchors() -> NDArray[np.float32]:
    """Returns the (2254, 2) anchors of the person model, as :func:`anchors` does."""
    return anchors(PERSON_INPUT, _PERSON_LAYERS)


def anchors(size: int, layers: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Returns the anchors' centres in the order of a model's outputs.

    Args:
        size: side of the model's square input, in pixels.
        layers: (stride in pixels, anchors per cell), in the order of the outputs.

    Returns:
        (N, 2) x, y in 0..1 of the input's side: the cells row by row, the anchors of a cell together. Anchors have no
        size, because the models' boxes are in input pixels.
    """
    found = []
    for stride, per_cell in layers:
        centres = (np.arange(size // stride, dtype=np.float32) + 0.5) * (stride / size)
        y, x = np.meshgrid(centres, centres, indexing="ij")
        found.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), per_cell, axis=0))
    return np.concatenate(found).astype(np.float32)
