"""The grid of anchors at which the palm model looks for palms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PALM_INPUT = 192
"""Side of the palm model's square input, in pixels."""

# (stride in input pixels, anchors per cell). The model's last two scales share the stride 16, hence 2 + 4 there.
_LAYERS = ((8, 2), (16, 6))


def palm_anchors() -> NDArray[np.float32]:
    """Returns the anchors' centres in the order of the palm model's outputs.

    Returns:
        (2016, 2) x, y in 0..1 of the input's side: the cells row by row, the anchors of a cell together. Anchors have
        no size, because the model's boxes are in input pixels.
    """
    layers = []
    for stride, per_cell in _LAYERS:
        centres = (np.arange(PALM_INPUT // stride, dtype=np.float32) + 0.5) * (stride / PALM_INPUT)
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layers.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), per_cell, axis=0))
    return np.concatenate(layers).astype(np.float32)
