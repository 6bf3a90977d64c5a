"""What a search asks of the networks, and what answers it: an engine, such as LiteRT on a CPU or torch on a GPU. Pure.

The search for hands in one picture (:mod:`worker.hands.search`) is a generator: it yields requests, is sent their answers, and
returns what it found. So the same rules run with one picture at a time, or with many whose requests an engine joins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import Floats, RotatedSquare, View

Found = TypeVar("Found")

LOGIT_MARGIN = 1e-3
"""By how much lower log odds are asked for than count, so that rounding decides nothing."""


@dataclass(frozen=True)
class Network:
    """A network: which file it is, and its input: a square picture, RGB, whose values 0..255 are scaled."""

    file: str
    """The field of :class:`worker.hands.models.ModelPaths` that has its path."""
    size: int
    """Side of the input, pixels."""
    scale: float
    """The input is the picture times this,"""
    offset: float
    """plus this."""

    def values(self, picture: NDArray[np.uint8]) -> Floats:
        """Returns the input for a (..., size, size, 3) RGB picture."""
        scaled = picture * np.float32(self.scale)
        return scaled + np.float32(self.offset) if self.offset else scaled


@dataclass(frozen=True)
class AnchorNetwork(Network):
    """One that looks for something at many anchors. Its outputs: a few numbers for each anchor, and the log odds there."""

    numbers: int
    """Numbers for each anchor."""
    min_logit: float
    """Anchors with lower log odds aren't asked for."""


@dataclass(frozen=True)
class CropNetwork(Network):
    """One that examines an upright crop."""

    outputs: tuple[int, ...]
    """The wanted outputs, by their numbers in the order of their names; one after the other they are a row of the answer."""


@dataclass(frozen=True)
class SearchViews:
    """Asks what an anchor network finds in views of the picture.

    The answer: for each view (N, 2 + numbers), a row for each anchor with enough log odds, in any order: the anchor's number,
    its log odds, and its numbers, in pixels of the input of that view (:func:`worker.hands.pyramid.cut_of`).
    """

    network: AnchorNetwork
    views: Sequence[View]


@dataclass(frozen=True)
class ReadCrops:
    """Asks what a crop network says about rotated squares of the picture.

    The answer: a row for each square, with the network's outputs one after the other, in pixels of the input.
    """

    network: CropNetwork
    squares: Sequence[RotatedSquare]


Request: TypeAlias = SearchViews | ReadCrops
Answer: TypeAlias = Sequence[Floats]
Answerer: TypeAlias = Callable[[Request], Answer]
Steps: TypeAlias = Generator[Request, Answer, Found]
"""A computation that asks networks on its way and returns what it found."""


class Uploaded(Protocol):
    """A picture's copy on the device. Whoever takes it must free it."""

    @property
    def pixels(self) -> Any:
        """(H, W, 3) uint8, BGR, a tensor on the device; there when the computation about the picture has ended."""
        ...

    def free(self, after: Any = None) -> None:
        """Leaves the room to other pictures, once the device has passed an event; a second call does nothing."""
        ...


Keep: TypeAlias = Callable[[Uploaded], None]
"""Takes a picture's copy. It is quick and raises nothing."""


class Engine(Protocol):
    """Runs the networks. Any thread may use it."""

    @property
    def name(self) -> str:
        """As in the results, such as "litert"."""
        ...

    def prepare(self, networks: Iterable[Network]) -> None:
        """Loads networks, so that the first picture doesn't wait for that."""
        ...

    @property
    def at_once(self) -> int:
        """How many pictures keep it busy; 1 if it answers one after the other."""
        ...

    def run(self, image: NDArray[np.uint8], steps: Steps[Found], keep: Keep | None = None) -> Future[Found]:
        """Answers the requests of a computation about a picture, (H, W, 3) uint8 BGR.

        Args:
            image: the picture.
            steps: the computation.
            keep: called before the future is done, with the picture's copy on the device, unless the computation has failed.
                An engine without a device doesn't call it.

        Returns:
            A future of what the computation returns; one that is done, if requests are answered one after the other.
        """
        ...


def logit(probability: float) -> float:
    """Returns the log odds of a probability between 0 and 1."""
    return math.log(probability / (1 - probability))


def answered(steps: Steps[Found], answer: Answerer) -> Found:
    """Runs a computation to its end, and returns what it found."""
    try:
        request = next(steps)
        while True:
            request = steps.send(answer(request))
    except StopIteration as end:
        found: Found = end.value
        return found
