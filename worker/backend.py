"""Chooses what finds the hands, and makes it ready: the palm detector alone, or with HaMeR behind it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.download import download_progress
from worker.hands.detection import HandDetector, Hands
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.draw import annotate
from worker.hands.models import TITLE, ModelError, default_models_dir, ensure_models

logger = logging.getLogger(__name__)

Drawing = Callable[[NDArray[np.uint8], Hands], NDArray[np.uint8]]
"""Gives a copy of a picture (H, W, 3) with its hands drawn into it."""


class BackendError(Exception):
    """What finds the hands can't be made ready; the text says why and what to do."""


@dataclass(frozen=True)
class Backend:
    """What finds the hands."""

    name: str
    """As the results carry it."""
    make_detector: Callable[[], HandDetector]
    """Makes a detector for one thread."""
    draw: Drawing
    close: Callable[[], None]
    """Gives up what the detectors share, once none is used any more."""


def open_backend(
    *,
    backend: str,
    tiles: int,
    min_score: float,
    models_dir: Path | None,
    hamer_checkpoint: Path | None = None,
    mano: Path | None = None,
    device: str = "auto",
    mesh: bool = False,
    num_threads: int = 1,
    on_event: Callable[[str, int], None] = lambda _event, _times: None,
) -> Backend:
    """Loads what is needed; ``auto`` takes HaMeR where a checkpoint is configured, and says which it took.

    Args:
        backend: auto, palm or hamer.
        tiles: see PalmLandmarkDetector, as for min_score and num_threads.
        min_score: the least score of a hand.
        models_dir: folder of the palm detector's models; the user's cache by default.
        hamer_checkpoint: hamer.ckpt.
        mano: MANO_RIGHT.pkl, where the checkpoint lacks the hand model.
        device: of HaMeR: auto, cpu, cuda, cuda:1.
        mesh: whether HaMeR's meshes are wanted, too.
        num_threads: of one palm detector.
        on_event: is told what became of HaMeR's hands, and how often; from any thread. At first, 0 of each.

    Raises:
        BackendError: a model is missing or broken, or there is no such device.
    """
    try:
        with download_progress(sys.stderr, TITLE) as progress:
            models = ensure_models(models_dir or default_models_dir(), progress)
    except ModelError as error:
        raise BackendError(str(error)) from error

    def palm() -> PalmLandmarkDetector:
        return PalmLandmarkDetector(models, tiles=tiles, min_score=min_score, num_threads=num_threads)

    if backend == "palm" or (backend == "auto" and hamer_checkpoint is None):
        if backend == "auto":
            logger.info("backend palm: no --hamer-checkpoint is configured")
        return Backend("palm", palm, annotate, lambda: None)
    if hamer_checkpoint is None:
        raise BackendError("the backend hamer needs --hamer-checkpoint (hand-counter models fetch --hamer gets one)")
    return _with_hamer(palm, hamer_checkpoint, mano, device, mesh, on_event)


def _with_hamer(
    palm: Callable[[], HandDetector],
    checkpoint: Path,
    mano: Path | None,
    device: str,
    mesh: bool,
    on_event: Callable[[str, int], None],
) -> Backend:
    try:
        from worker.hamer.consistency import Verdict
        from worker.hamer.detector import HamerDetector, PosedHands
        from worker.hamer.draw import draw_hands
        from worker.hamer.errors import HamerError
        from worker.hamer.refiner import HamerRefiner
    except ModuleNotFoundError as error:
        raise BackendError(f"HaMeR needs {error.name}: pip install 'hamer-hand-counter[hamer]'") from error
    try:
        refiner = HamerRefiner.load(checkpoint, mano=mano, device=device, mesh=mesh, on_event=on_event)
    except HamerError as error:
        raise BackendError(str(error)) from error
    logger.info("backend hamer: %s", checkpoint)
    for event in (*Verdict, "out_of_memory"):
        on_event(str(event), 0)
    faces = refiner.predictor.faces if mesh else None

    def draw(image: NDArray[np.uint8], hands: Hands) -> NDArray[np.uint8]:
        if isinstance(hands, PosedHands):
            image = draw_hands(image, hands.poses, faces)
        return annotate(image, hands, skeletons=False)

    return Backend("hamer", lambda: HamerDetector(palm(), refiner), draw, refiner.close)
