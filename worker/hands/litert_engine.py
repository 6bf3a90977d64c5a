"""The networks on a CPU: LiteRT, one input at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from worker.hands.geometry import Floats
from worker.hands.models import ModelPaths
from worker.hands.networks import (
    AnchorNetwork,
    Answer,
    Answerer,
    CropNetwork,
    Found,
    Keep,
    Network,
    Request,
    SearchViews,
    Steps,
    answered,
)
from worker.hands.pyramid import Pyramid


class LiteRtEngine:
    """Runs the networks without the interpreter's lock.

    Threads may share it, but then one picture waits for the other; for speed each thread has its own.
    """

    name = "litert"
    at_once = 1

    def __init__(self, models: ModelPaths, num_threads: int = 1) -> None:
        """Takes the checked model files, and how many threads each network uses."""
        self._files = models
        self._num_threads = num_threads
        self._models: dict[Network, Model] = {}
        self._lock = threading.Lock()

    def prepare(self, networks: Iterable[Network]) -> None:
        """Loads networks."""
        for network in networks:
            if network not in self._models:
                self._models[network] = Model(getattr(self._files, network.file), self._num_threads)

    def run(
        self,
        image: NDArray[np.uint8],
        steps: Steps[Found],
        keep: Keep | None = None,  # noqa: ARG002
    ) -> Future[Found]:
        """Runs a computation about a picture (H, W, 3) uint8 BGR to its end, in this thread."""
        found: Future[Found] = Future()
        try:
            with self.open(image) as answer:
                found.set_result(answered(steps, answer))
        except Exception as error:
            found.set_exception(error)
        return found

    @contextmanager
    def open(self, image: NDArray[np.uint8]) -> Iterator[Answerer]:
        """Takes a picture (H, W, 3) uint8 BGR, and yields what answers requests about it."""
        with self._lock:
            pyramid = Pyramid(image)
            yield lambda request: self._answer(pyramid, request)

    def _answer(self, pyramid: Pyramid, request: Request) -> Answer:
        network = request.network
        self.prepare([network])
        if isinstance(request, SearchViews):
            return [self._rows(network, pyramid.letterboxed(view, network.size)) for view in request.views]
        return [self._rows(network, pyramid.upright(square, network.size)) for square in request.squares]

    def _rows(self, network: AnchorNetwork | CropNetwork, picture: NDArray[np.uint8]) -> Floats:
        """Returns what a loaded network says about one input, (size, size, 3) uint8 RGB. One thread at a time may ask."""
        model = self._models[network]
        if isinstance(network, AnchorNetwork):
            return anchor_rows(model, network, picture)
        return crop_row(model, network, picture)


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


def anchor_rows(model: Model, network: AnchorNetwork, picture: NDArray[np.uint8]) -> Floats:
    """Returns (N, 2 + numbers) for a letterboxed view: number, log odds and numbers of each anchor with enough log odds."""
    model.run(network.values(picture)[None])
    # The last axis identifies an output: several numbers per anchor, or one score.
    regressors, logits = (model.output(model.widths.index(width))[0] for width in (network.numbers, 1))
    rows = np.flatnonzero(logits[:, 0] >= network.min_logit)
    return np.concatenate([rows[:, None], logits[rows], regressors[rows]], axis=1).astype(np.float32)


def crop_row(model: Model, network: CropNetwork, picture: NDArray[np.uint8]) -> Floats:
    """Returns the wanted outputs for an upright crop, one after the other."""
    model.run(network.values(picture)[None])
    return np.concatenate([model.output(number).reshape(-1) for number in network.outputs])
