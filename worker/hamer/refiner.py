"""The door for the pipeline: detected hands in, refined hands out, from any number of threads."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hamer.batcher import MicroBatcher, end_process
from worker.hamer.consistency import Thresholds, Verdict, judge
from worker.hamer.errors import DeviceLostError, OutOfMemoryError, is_device_lost, is_out_of_memory
from worker.hamer.geometry import Crops, Floats, crops_of_boxes
from worker.hamer.poses import HandPoses
from worker.hamer.predictor import HamerPredictor

LARGEST_BOX = 2
"""A box of more than this many frames is no hand's, and blurring its crop would take long."""


class DetectedHands(Protocol):
    """What a detector gives, as parallel arrays over N hands of one frame."""

    @property
    def boxes(self) -> NDArray[np.floating]:
        """(N, 4) x0, y0, x1, y1 in pixels, tight around each hand."""

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(N,) which hands are right ones."""

    @property
    def scores(self) -> NDArray[np.floating]:
        """(N,) confidence."""

    @property
    def keypoints(self) -> NDArray[np.floating]:
        """(N, 21, 2) joints in pixels, wrist first, then thumb to little finger."""


@dataclass(frozen=True)
class RefinedHands:
    """The hands of one frame that HaMeR doesn't contradict, as parallel arrays over M of the N detections.

    Attributes:
        source: (M,) which detection each is, ascending.
        boxes: (M, 4) the detection's box in pixels.
        is_right: (M,) bool.
        scores: (M,) the detection's confidence; HaMeR has none of its own.
        poses: HaMeR's joints, cameras and meshes of the M hands.
        verdicts: N, what became of each detection.
    """

    source: NDArray[np.int64]
    boxes: Floats
    is_right: NDArray[np.bool_]
    scores: Floats
    poses: HandPoses
    verdicts: tuple[Verdict, ...]

    def __len__(self) -> int:
        return len(self.source)


class HamerRefiner:
    """Refines detected hands with HaMeR, the hands of all callers in common batches.

    Args:
        predictor: HaMeR on its device.
        deadline: seconds that a crop waits for the company of other frames.
        thresholds: when a detection counts as contradicted.
        on_lost: called once when the GPU is gone; by default ends the process with exit code 1.
        on_event: called, from any thread, with a `Verdict` or "out_of_memory" and how often it happened: for metrics.

    Attributes:
        predictor: as given.
        batcher: counts batches, crops and shortages of memory.
    """

    def __init__(
        self,
        predictor: HamerPredictor,
        *,
        deadline: float = 0.004,
        thresholds: Thresholds | None = None,
        on_lost: Callable[[DeviceLostError], None] = end_process,
        on_event: Callable[[str, int], None] = lambda _event, _times: None,
    ) -> None:
        self.predictor = predictor
        self._thresholds = thresholds or Thresholds()
        self._on_event = on_event
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.batcher = MicroBatcher(
            predictor.engine.forward,
            buckets=predictor.engine.buckets,
            deadline=deadline,
            on_lost=on_lost,
            on_shortage=self._note_shortage,
        )

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        mano: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        mesh: bool = False,
        deadline: float = 0.004,
        on_event: Callable[[str, int], None] = lambda _event, _times: None,
    ) -> "HamerRefiner":
        """Loads the official checkpoint and makes every batch size ready, so that the first frame doesn't wait.

        Arguments and errors are those of `HamerPredictor.load` and of the constructor.
        """
        predictor = HamerPredictor.load(checkpoint, mano=mano, device=device, precision=precision, mesh=mesh)
        refiner = cls(predictor, deadline=deadline, on_event=on_event)
        refiner.batcher.warm_up(predictor.engine.warm_up)
        return refiner

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each verdict was given, and "out_of_memory", since the start."""
        with self._lock:
            return dict(self._counts)

    def refine(self, image: NDArray[np.uint8], hands: DetectedHands) -> RefinedHands:
        """Refines the hands of one frame; blocks until the batch that they travel in is done. Safe in any thread.

        Args:
            image: (H, W, 3) uint8, BGR.
            hands: the detections.

        Raises:
            OutOfMemoryError: not even one crop at a time fits into the device's memory.
            DeviceLostError: the device is gone (only where `on_lost` returns).
            ValueError: arrays of other shapes.
        """
        height, width = image.shape[:2]
        boxes = np.asarray(hands.boxes, np.float64).reshape(-1, 4)
        is_right, scores = np.asarray(hands.is_right, bool), np.asarray(hands.scores, np.float64)
        asked = np.flatnonzero(usable_boxes(boxes, width, height))
        squares = crops_of_boxes(boxes[asked], is_right[asked])
        if len(asked):
            rows = self.batcher.run(self._crop(image, squares))
        else:
            rows = np.empty((0, self.predictor.engine.row_length), np.float32)
        poses = self.predictor.poses(rows, squares, width, height)
        keypoints = np.asarray(hands.keypoints, np.float64)[asked]
        verdicts = [Verdict.BAD_BOX] * len(boxes)
        judged = judge(poses, boxes[asked], scores[asked], keypoints, (width, height), self._thresholds)
        for n, verdict in zip(asked, judged, strict=True):
            verdicts[n] = verdict
        for verdict, times in Counter(verdicts).items():
            self._note(verdict, times)
        kept = np.array([verdicts[n] is Verdict.KEPT for n in asked], bool)
        source = asked[kept]
        return RefinedHands(
            source, boxes[source], is_right[source], scores[source], poses.select(kept), tuple(verdicts)
        )

    def close(self) -> None:
        """Finishes what is under way and stops; `refine` fails afterwards."""
        self.batcher.close()

    def __enter__(self) -> "HamerRefiner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _crop(self, image: NDArray[np.uint8], squares: Crops) -> torch.Tensor:
        """Crops in the caller's thread, so that frames are prepared while the device computes."""
        try:
            return self.predictor.crop(image, squares)
        except Exception as e:
            if is_device_lost(e):
                lost = DeviceLostError(f"the device is lost: {e}")
                self.batcher.report_lost(lost)
                raise lost from e
            if not is_out_of_memory(e):
                raise
        self._note_shortage()
        try:
            return self.predictor.crop(image, squares)  # what was cached is free now
        except Exception as e:
            if is_out_of_memory(e):
                raise OutOfMemoryError("the device has no memory left for a frame and its crops") from e
            raise

    def _note_shortage(self) -> None:
        self.predictor.engine.free_memory()
        self._note("out_of_memory", 1)

    def _note(self, event: str, times: int) -> None:
        with self._lock:
            self._counts[event] += times
        self._on_event(str(event), times)


def usable_boxes(boxes: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """Tells which boxes (N, 4) are finite, not empty, of a sensible size, and not wholly off the frame."""
    with np.errstate(invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        on_frame = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < [width, height]).all(1)
        sensible = (sides > 0).all(1) & (sides.max(axis=1, initial=0) < LARGEST_BOX * max(width, height))
        return np.asarray(np.isfinite(boxes).all(1) & sensible & on_frame)
