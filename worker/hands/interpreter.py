"""A model on LiteRT: one input, and its outputs by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray


class Model:
    """Runs one model. Only one thread may use it at a time.

    Inputs run one by one: LiteRT resizes these models to batches, but on a CPU a batch of 2 or 4 takes as long for each
    input as one alone (python -m bench.detector --batches).
    """

    def __init__(self, file: Path, num_threads: int = 1) -> None:
        """Loads a model that runs in `num_threads` threads."""
        self._interpreter = Interpreter(model_path=str(file), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = sorted(self._interpreter.get_output_details(), key=lambda output: str(output["name"]))
        self._outputs = [int(output["index"]) for output in outputs]
        self.widths = [int(output["shape"][-1]) for output in outputs]
        """The size of each output's last axis, in the order of their names: Identity, Identity_1, ..."""

    def run(self, tensor: NDArray[np.float32]) -> None:
        """Runs the model on (1, size, size, 3) float32."""
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()

    def output(self, number: int) -> NDArray[np.float32]:
        """Returns one output of the last run, by its number in `widths`."""
        tensor: NDArray[np.float32] = self._interpreter.get_tensor(self._outputs[number])
        return tensor
