"""The pipeline's door to HaMeR: detected hands in, refined hands out, from any number of threads."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.hamer.batcher import MicroBatcher
from worker.hamer.consistency import Thresholds, judge
from worker.hamer.errors import DeviceLostError, OutOfMemoryError, is_device_lost, is_out_of_memory
from worker.hamer.geometry import Crops, crops_of_boxes
from worker.hamer.poses import HandPoses
from worker.hamer.predictor import HamerPredictor
from worker.hamer.rows import Rows
from worker.hamer.streams import Cropped
from worker.hamer.tuning import Compile
from worker.hamer.verdicts import Verdict
from worker.hands.device.errors import end_process
from worker.hands.geometry import Doubles
from worker.hands.networks import Uploaded

LARGEST_BOX = 2
"""A box larger than this many frames isn't a hand's, and blurring its crop would take long."""

PREPARING_THREADS = 2
"""Cut crops and judge hands: while one waits for an upload, the other works."""

OUT_OF_MEMORY = "out_of_memory"
"""The event that is reported when the device runs out of memory."""

OVERFLOW = "overflow"
"""The event that is reported for each crop that overflowed float16 and is computed once more, in bfloat16."""

EVENTS = (*(str(verdict) for verdict in Verdict), OUT_OF_MEMORY, OVERFLOW)
"""All that a refiner reports: the verdict about each hand, and what happened on the way."""


class DetectedHands(Protocol):
    """A detector's output: parallel arrays over N hands of one frame."""

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


@dataclass(frozen=True, eq=False)
class RefinedHands:
    """The hands of one frame that HaMeR doesn't contradict: M of the N detections."""

    source: NDArray[np.int64]
    """(M,) index of each hand's detection, ascending."""
    poses: HandPoses
    """HaMeR's joints, cameras and meshes of the M hands."""
    verdicts: list[Verdict]
    """Of the N detections."""


@dataclass(frozen=True, eq=False)
class _Refining:
    """A frame whose hands are being refined."""

    hands: DetectedHands
    usable: NDArray[np.int64]
    """Indices of the hands that can be cropped."""
    squares: Crops
    width: int
    height: int
    refined: Future[RefinedHands]


class HamerRefiner:
    """Refines detected hands with HaMeR; the hands of all callers share batches.

    Args:
        predictor: HaMeR on its device.
        thresholds: where a contradiction begins.
        on_lost: called once when the GPU is lost; by default ends the process with exit code 3.
        on_event: called, from any thread, with one of EVENTS and how often it happened: for metrics.

    Attributes:
        predictor: as passed in.
        batcher: runs the batches.
    """

    def __init__(
        self,
        predictor: HamerPredictor,
        *,
        thresholds: Thresholds | None = None,
        on_lost: Callable[[DeviceLostError], None] = end_process,
        on_event: Callable[[str, int], None] = lambda _event, _times: None,
    ) -> None:
        self.predictor = predictor
        self._thresholds = thresholds or Thresholds()
        self._on_event = on_event
        self.batcher = MicroBatcher(
            predictor.engine,
            buckets=predictor.engine.buckets,
            on_lost=on_lost,
            on_shortage=self._report_shortage,
            on_overflow=lambda crops: on_event(OVERFLOW, crops),
        )
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, "hamer-prepare")

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        mano: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        mesh: bool = False,
        mode: Compile = Compile.AUTO,
        tuning_folder: Path | None = None,
        on_lost: Callable[[DeviceLostError], None] = end_process,
        on_event: Callable[[str, int], None] = lambda _event, _times: None,
    ) -> "HamerRefiner":
        """Loads the official checkpoint; on a GPU warms up every batch size, so that the first frame doesn't wait for that.

        Arguments and errors are those of `HamerPredictor.load`, of the constructor, and of `Engine.tune`: `mode` and
        `tuning_folder`.

        Raises:
            OutOfMemoryError: the device has no memory for the weights, or for a single crop.
            DeviceLostError: the device is lost (only if `on_lost` returns).
        """
        refiner = None
        try:
            predictor = HamerPredictor.load(checkpoint, mano=mano, device=device, precision=precision, mesh=mesh)
            predictor.engine.tune(mode, tuning_folder)
            refiner = cls(predictor, on_lost=on_lost, on_event=on_event)
            refiner.batcher.warm_up(predictor.engine.warm_up)
        except Exception as error:
            if refiner:
                refiner.close()
            if is_device_lost(error):
                lost = DeviceLostError(f"the device is lost: {error}")
                on_lost(lost)
                raise lost from error
            if is_out_of_memory(error):
                raise OutOfMemoryError(f"no memory for HaMeR; is another process using the device? {error}") from error
            raise
        return refiner

    def refine(self, image: NDArray[np.uint8], hands: DetectedHands) -> RefinedHands:
        """Does the same as `submit`, and blocks until the hands are refined. Raises what the future would."""
        return self.submit(image, hands).result()

    def submit(
        self, image: NDArray[np.uint8], hands: DetectedHands, uploaded: Uploaded | None = None
    ) -> Future[RefinedHands]:
        """Lets the hands of one frame be refined, in batches with those of other frames. For any thread.

        Args:
            image: (H, W, 3) uint8, BGR.
            hands: the detections.
            uploaded: the frame's copy on the detector's device, from which crops are cut if HaMeR runs there, too. It is freed
                here, unless this raises.

        Returns:
            A future of the hands. It fails with OutOfMemoryError if the device has no memory for even one crop at a time, and
            with DeviceLostError if the device is lost (only if `on_lost` returns).
        """
        refined: Future[RefinedHands] = Future()
        self._threads.submit(self._begin, image, hands, refined, uploaded)
        return refined

    def close(self) -> None:
        """Finishes the batches in progress and stops; what is refined later fails."""
        self.batcher.close()
        self._threads.shutdown()

    def _begin(
        self,
        image: NDArray[np.uint8],
        hands: DetectedHands,
        refined: Future[RefinedHands],
        uploaded: Uploaded | None,
    ) -> None:
        """Crops in a thread that isn't the device's, so that frames are prepared while the device computes."""
        with _failing(refined), ExitStack() as freeing:
            if uploaded is not None:
                freeing.callback(uploaded.free)  # unless that is done before
            height, width = image.shape[:2]
            boxes = np.asarray(hands.boxes, np.float64).reshape(-1, 4)
            usable = np.flatnonzero(usable_boxes(boxes, width, height))
            squares = crops_of_boxes(boxes[usable], np.asarray(hands.is_right, bool)[usable])
            frame = _Refining(hands, usable, squares, width, height, refined)
            if len(usable):
                cropped = self._crop(image, squares, uploaded)
                if uploaded is not None:
                    uploaded.free(cropped.ready)
                rows = self.batcher.submit(cropped)
                rows.add_done_callback(lambda done: self._threads.submit(self._end, frame, done))
            else:
                refined.set_result(self._judged(frame, np.empty((0, self.predictor.engine.layout.length), np.float32)))

    def _end(self, frame: _Refining, rows: Future[Rows]) -> None:
        with _failing(frame.refined):
            frame.refined.set_result(self._judged(frame, rows.result()))

    def _judged(self, frame: _Refining, rows: Rows) -> RefinedHands:
        """Returns the hands that HaMeR's rows don't contradict, and reports the verdicts."""
        boxes = np.asarray(frame.hands.boxes, np.float64).reshape(-1, 4)[frame.usable]
        scores = np.asarray(frame.hands.scores, np.float64)[frame.usable]
        keypoints = np.asarray(frame.hands.keypoints, np.float64)[frame.usable]
        poses = self.predictor.poses(rows, frame.squares, frame.width, frame.height)
        judged = judge(poses, boxes, scores, keypoints, (frame.width, frame.height), self._thresholds)
        verdicts = [Verdict.BAD_BOX] * len(frame.hands.boxes)
        for row, verdict in zip(frame.usable.tolist(), judged, strict=True):
            verdicts[row] = verdict
        for verdict, times in Counter(verdicts).items():
            self._on_event(str(verdict), times)
        kept = np.array([verdict is Verdict.KEPT for verdict in judged], bool)
        return RefinedHands(frame.usable[kept], poses.select(kept), verdicts)

    def _crop(self, image: NDArray[np.uint8], squares: Crops, uploaded: Uploaded | None) -> Cropped:
        try:
            return self.predictor.crop(image, squares, uploaded)
        except Exception as e:
            if is_device_lost(e):
                lost = DeviceLostError(f"the device is lost: {e}")
                self.batcher.report_lost(lost)
                raise lost from e
            if not is_out_of_memory(e):
                raise
        self._report_shortage()
        try:
            return self.predictor.crop(image, squares, uploaded)  # cached memory has been freed
        except Exception as e:
            if is_out_of_memory(e):
                raise OutOfMemoryError("the device has no memory left for a frame and its crops") from e
            raise

    def _report_shortage(self) -> None:
        self.predictor.engine.free_memory()
        self._on_event(OUT_OF_MEMORY, 1)


@contextmanager
def _failing(future: Future[RefinedHands]) -> Iterator[None]:
    """Has a future fail with what the block raises."""
    try:
        yield
    except Exception as error:
        future.set_exception(error)


def usable_boxes(boxes: Doubles, width: int, height: int) -> NDArray[np.bool_]:
    """Returns which boxes (N, 4) are finite, not empty, of a sensible size, and at least partly on the frame."""
    with np.errstate(invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        on_frame = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < [width, height]).all(1)
        sensible = (sides > 0).all(1) & (sides.max(axis=1, initial=0) < LARGEST_BOX * max(width, height))
        return np.asarray(np.isfinite(boxes).all(1) & sensible & on_frame)
