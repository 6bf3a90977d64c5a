"""A hand detector's output, and its interface. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worker.hands.outputs import DETECTED, Output, Unit

if TYPE_CHECKING:
    from worker.hands.networks import Keep

_BOOL, _FLOAT = np.dtype(np.bool_), np.dtype(np.float32)


def _dtype(output: Output) -> np.dtype[Any]:
    return _BOOL if output.unit is Unit.FLAG else _FLOAT


@dataclass(frozen=True, eq=False)
class Hands:
    """The hands of one picture: parallel arrays with one row per hand. A detector returns the highest score first.

    The table in worker/hands/outputs.py has their shapes and units.

    All coordinates are pixels of the detector's input, x to the right and y down, with (0, 0) at the outer corner of
    the first pixel. Only `keypoints` may be outside the picture.

    Raises:
        ValueError: an array's shape, type or range isn't as documented here.
    """

    boxes: NDArray[np.float32]
    """(N, 4) x0, y0, x1, y1 with x0 < x1 and y0 < y1."""
    is_right: NDArray[np.bool_]
    """(N,)"""
    scores: NDArray[np.float32]
    """(N,)"""
    keypoints: NDArray[np.float32]
    """(N, 21, 2) all NaN if a hand's joints aren't trusted."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        for output in DETECTED:
            array, shape, dtype = getattr(self, output.name), (count, *output.shape), _dtype(output)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{output.name} is {array.dtype}{list(array.shape)}, not {dtype}{list(shape)}")
        if not np.isfinite(self.boxes).all() or not (self.boxes[:, :2] < self.boxes[:, 2:]).all():
            raise ValueError("a box isn't finite with x0 < x1 and y0 < y1")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("a score isn't in 0..1")
        known = np.isfinite(self.keypoints).all(axis=(1, 2))
        if not (known | np.isnan(self.keypoints).all(axis=(1, 2))).all():
            raise ValueError("the keypoints of a hand are neither all finite nor all NaN")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Hands:
        """Returns the hands that a slice, a mask or indices select, in that order."""
        return Hands(**{output.name: getattr(self, output.name)[rows] for output in DETECTED})

    @classmethod
    def empty(cls) -> Hands:
        """Returns the hands of a picture without hands."""
        return cls(**{output.name: np.zeros((0, *output.shape), _dtype(output)) for output in DETECTED})

    def values(self) -> Mapping[str, NDArray[Any]]:
        """Returns what is known of the hands by the names in the table: these arrays, unless a subclass has more."""
        return {output.name: getattr(self, output.name) for output in DETECTED}

    def dropped(self) -> Dropped:
        """Returns the hands that were detected and aren't counted: none, unless a subclass knows some."""
        return Dropped(Hands.empty(), (), ())

    def scaled(self, factor: float) -> Hands:
        """Returns the hands of the same picture with its width and height times a factor."""
        arrays: dict[str, NDArray[Any]] = {output.name: getattr(self, output.name) for output in DETECTED}
        pixels = {output.name: arrays[output.name] * factor for output in DETECTED if output.unit is Unit.PIXELS}
        return Hands(**(arrays | pixels))

    def above(self, min_score: float) -> Hands:
        """Returns the hands with at least this score."""
        return self[self.scores >= min_score]


class Dropped(NamedTuple):
    """Hands that one model found and another contradicted."""

    hands: Hands
    """As the first model found them."""
    verdicts: Sequence[str]
    """Of each hand: the other model's."""
    reasons: Sequence[str]
    """The same for people."""


class HandDetector(Protocol):
    """Finds hands. Only one thread may use an instance at a time, unless its class documents otherwise."""

    @property
    def name(self) -> str:
        """The backend's name in results, such as "palm"."""
        ...

    @property
    def engine(self) -> str:
        """What runs the networks, as in results, such as "litert"."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Finds the hands in one picture.

        Args:
            image: (H, W, 3) uint8, BGR, not mirrored.

        Returns:
            The hands, highest score first; empty if there are none.

        Raises:
            ValueError: the picture has another shape or type.
        """
        ...


@runtime_checkable
class BatchingDetector(HandDetector, Protocol):
    """A detector that works on several pictures at the same time. Any thread may use it."""

    @property
    def at_once(self) -> int:
        """How many pictures keep it busy: more in progress at a time would only wait."""
        ...

    def submit(self, image: NDArray[np.uint8]) -> Future[Hands]:
        """Lets the hands in one picture be found.

        Args:
            image: (H, W, 3) uint8, BGR, not mirrored; it isn't changed before the future is done.

        Returns:
            A future of what `detect` returns. Its callbacks are called in a thread that others wait for, so they must be quick.

        Raises:
            ValueError: the picture has another shape or type.
        """
        ...


@runtime_checkable
class KeepingDetector(BatchingDetector, Protocol):
    """A detector that may hand over a picture's copy on the device, to what works on with its hands."""

    def submit_keeping(self, image: NDArray[np.uint8], keep: Keep | None) -> Future[Hands]:
        """Does the same as `submit`; see :meth:`worker.hands.networks.Engine.run` about `keep`."""
        ...


def at_once(detector: HandDetector) -> int:
    """Returns how many pictures keep a detector busy."""
    return detector.at_once if isinstance(detector, BatchingDetector) else 1


def submitted(detector: HandDetector, image: NDArray[np.uint8]) -> Future[Hands]:
    """Returns a future of the hands in one picture; one that is done, if the detector takes one picture at a time.

    Raises:
        ValueError: the picture has another shape or type.
    """
    if isinstance(detector, BatchingDetector):
        return detector.submit(image)
    hands: Future[Hands] = Future()
    try:
        hands.set_result(detector.detect(image))
    except Exception as error:
        hands.set_exception(error)
    return hands
