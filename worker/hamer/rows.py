"""The rows in which the network's outputs leave the device: one for each hand, so that a single copy transfers them."""

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hands.outputs import COMPUTED, VERTICES, Source

Rows = NDArray[np.float32]
"""(n, length): the network's outputs for n crops; see `RowLayout`."""


class RowLayout:
    """Where each output lies in a row: one after the other, in the order of the table.

    Args:
        vertices: of the hand model; 0 if the network doesn't compute them.

    Attributes:
        shapes: of one hand's outputs, by their names.
        length: numbers in a row.
    """

    def __init__(self, *, vertices: int = 0) -> None:
        self.shapes = {
            output.name: tuple(vertices if length == VERTICES else length for length in output.shape)
            for output in COMPUTED
            if vertices or output.source is not Source.MESH
        }
        self.length = sum(map(prod, self.shapes.values()))

    def join(self, outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the rows (n, length) of the network's outputs, each (n, ...)."""
        return torch.cat([outputs[name].reshape(-1, prod(shape)) for name, shape in self.shapes.items()], dim=1)

    def split(self, rows: Rows) -> dict[str, Rows]:
        """Returns the outputs in rows (n, length) by their names, each (n, ...), without copying them."""
        outputs: dict[str, Rows] = {}
        start = 0
        for name, shape in self.shapes.items():
            end = start + prod(shape)
            outputs[name] = rows[:, start:end].reshape(len(rows), *shape)
            start = end
        return outputs
