"""A LiteRT engine that caches its outputs, for tests of the code that uses them."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import Floats
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import ModelPaths
from worker.hands.networks import AnchorNetwork, CropNetwork


class RememberingEngine(LiteRtEngine):
    """Runs a network on the inputs that are new, and remembers its answers: the same bytes have the same answer.

    Most tests' pictures have inputs in common, such as views of a background. What is cut from a picture and what is made of
    the answers is computed each time. A test of the engine itself takes one that runs each time.
    """

    def __init__(self, models: ModelPaths) -> None:
        """Remembers nothing yet."""
        super().__init__(models)
        self._remembered: dict[tuple[AnchorNetwork | CropNetwork, bytes], Floats] = {}

    def _rows(self, network: AnchorNetwork | CropNetwork, picture: NDArray[np.uint8]) -> Floats:
        """Returns what a network says about one input; an answer can't be changed."""
        key = network, hashlib.sha256(picture).digest()
        if key not in self._remembered:
            self._remembered[key] = super()._rows(network, picture)
            self._remembered[key].flags.writeable = False
        return self._remembered[key]
