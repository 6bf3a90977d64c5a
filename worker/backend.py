"""What finds the hands: a table of backends, and how each is opened.

To add a model, write a function that opens it, add its row to BACKENDS, and give its flags a place in HandsSettings
(worker/hands_settings.py) and HandsOptions (worker/options.py). Nothing else knows which models exist.
"""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from worker.options import HandsOptions

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from worker.hands.detection import HandDetector, Hands
    from worker.hands.device.engine import DeviceEngine
    from worker.hands.models import ModelPaths

logger = logging.getLogger(__name__)

AUTO = "auto"
"""As the backend, the first whose flags are given; as the device, a GPU if there is one."""

CPU = "cpu"

Drawing: TypeAlias = "Callable[[NDArray[np.uint8], Hands], NDArray[np.uint8]]"
"""Returns a copy of a picture, HxWx3 uint8 in BGR, with its hands drawn into it."""

OnEvent: TypeAlias = Callable[[str, int], None]
"""Called with a verdict about hands, or another event of a backend, and how often it occurred; from any thread."""


class BackendError(Exception):
    """A backend can't be opened; the text says why and what to do."""


@dataclass(frozen=True)
class Backend:
    """An open backend."""

    name: str
    """As in the results."""
    make_detector: Callable[[], HandDetector]
    """Makes a detector for one thread."""
    draw: Drawing
    close: Callable[[], None]
    """Frees what the detectors share, once none of them is in use."""


class Row(NamedTuple):
    """One backend of the table."""

    open: Callable[[HandsOptions, OnEvent], Backend]
    """Loads the models. Raises BackendError."""
    missing: Callable[[HandsOptions], str | None]
    """Returns the flag without which the backend can't be opened; None if nothing is missing."""


def open_backend(options: HandsOptions, on_event: OnEvent = lambda _event, _times: None) -> Backend:
    """Opens the backend of these options.

    Args:
        options: which backend, and how it finds hands.
        on_event: called with each event that the backend knows and 0 at first, then whenever one occurs.

    Raises:
        BackendError: there is no such backend or device, or a model is missing or broken.
    """
    if error := backend_error(options):
        raise BackendError(error)
    name = options.backend
    if name == AUTO:
        missing = {name: row.missing(options) for name, row in BACKENDS.items()}
        name = next(name for name, flag in missing.items() if flag is None)
        needs = [f"{other} needs {flag}" for other, flag in missing.items() if flag]
        logger.info("chose the backend", extra={"backend": name, "not_configured": needs})
    return BACKENDS[name].open(options, on_event)


def backend_error(options: HandsOptions) -> str | None:
    """Returns why these options name no backend that can be opened; None if they do."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", options.device):
        return f"--device must be auto, cpu, cuda or cuda:N, got {options.device!r}"
    if options.backend == AUTO:
        return None
    if options.backend not in BACKENDS:
        return f"--backend must be one of {', '.join(names())}, got {options.backend!r}"
    flag = BACKENDS[options.backend].missing(options)
    return f"--backend {options.backend} needs {flag}" if flag else None


def names() -> tuple[str, ...]:
    """Returns what --backend may be."""
    return (AUTO, *BACKENDS)


def _open_palm(options: HandsOptions, _on_event: OnEvent) -> Backend:
    from worker.hands.draw import annotate

    palm = _palm_detectors(options)
    return Backend("palm", palm.make, annotate, palm.close)


def _open_hamer(options: HandsOptions, on_event: OnEvent) -> Backend:
    palm = _palm_detectors(options)
    try:
        from worker.hamer.detector import HamerDetector, PosedHands
        from worker.hamer.draw import draw_meshes
        from worker.hamer.errors import DeviceError, HamerError
        from worker.hamer.refiner import EVENTS, HamerRefiner
        from worker.hamer.tuning import Compile
    except ModuleNotFoundError as error:
        raise BackendError(f"HaMeR needs {error.name}: pip install 'hamer-hand-counter[hamer]'") from error
    from worker.hands.draw import annotate

    assert options.hamer_checkpoint is not None  # its row says that it is needed
    try:
        refiner = HamerRefiner.load(
            options.hamer_checkpoint,
            mano=options.mano,
            device=options.device,
            mesh=options.mesh,
            precision=options.hamer_precision,
            mode=Compile(options.hamer_compile),
            tuning_folder=options.hamer_cache or _users_cache(),
            on_event=on_event,
        )
    except (HamerError, DeviceError) as error:
        raise BackendError(str(error)) from error
    logger.info("HaMeR is ready", extra={"checkpoint": str(options.hamer_checkpoint)})
    for event in EVENTS:
        on_event(event, 0)
    faces = refiner.predictor.faces if options.mesh else None

    def close() -> None:
        palm.close()
        refiner.close()

    def draw(image: NDArray[np.uint8], hands: Hands) -> NDArray[np.uint8]:
        if isinstance(hands, PosedHands) and faces is not None:
            image = draw_meshes(image, hands.poses, faces)
        return annotate(image, hands)

    return Backend("hamer", lambda: HamerDetector(palm.make(), refiner, f"hamer-{options.effort}"), draw, close)


def _users_cache() -> Path | None:
    """Returns where it is kept how HaMeR runs fastest, beside the models' usual folder; None without a home."""
    from worker.hands.models import ModelError, default_models_dir

    try:
        return default_models_dir().parent / "hamer"
    except ModelError:
        return None


class _PalmDetectors(NamedTuple):
    make: Callable[[], HandDetector]
    """Makes a detector for one thread."""
    close: Callable[[], None]


def _palm_detectors(options: HandsOptions) -> _PalmDetectors:
    """Fetches the palm detector's models if they aren't in their folder, and chooses what runs them."""
    from worker.download import download_progress
    from worker.hands.detector import PalmLandmarkDetector
    from worker.hands.models import TITLE, ModelError, default_models_dir, ensure_models

    try:
        with download_progress(sys.stderr, TITLE) as progress:
            models = ensure_models(options.models_dir or default_models_dir(), progress)
    except ModelError as error:
        raise BackendError(str(error)) from error
    shared = _gpu_engine(options.device, models)

    def make() -> HandDetector:
        if shared:
            return PalmLandmarkDetector(shared, effort=options.effort, min_score=options.min_score)
        from worker.hands.litert_engine import LiteRtEngine

        engine = LiteRtEngine(models, options.num_threads)
        return PalmLandmarkDetector(engine, effort=options.effort, min_score=options.min_score)

    return _PalmDetectors(make, shared.close if shared else lambda: None)


def _gpu_engine(device: str, models: ModelPaths) -> DeviceEngine | None:
    """Returns what runs the hand models on the GPU, for all threads; None if they run on the CPU."""
    if device == CPU or (device == AUTO and not _has_driver()):
        return None
    try:
        from worker.hands.device.choice import choose_gpu
        from worker.hands.device.engine import DeviceEngine
        from worker.hands.device.errors import DeviceError, is_out_of_memory
    except ModuleNotFoundError as error:
        if device == AUTO:
            logger.info("torch isn't installed, so the GPU isn't used", extra={"package": error.name})
            return None
        raise BackendError(f"--device {device} needs {error.name}: pip install 'hamer-hand-counter[gpu]'") from error
    try:
        chosen = choose_gpu(device)
        return None if chosen is None else DeviceEngine(models, chosen)
    except DeviceError as error:
        raise BackendError(str(error)) from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise BackendError(f"the GPU has no memory for pictures; is another process using it? {error}") from error


def _has_driver() -> bool:
    """Returns whether there is a driver of a GPU; to ask torch takes seconds."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


BACKENDS: Mapping[str, Row] = {
    "hamer": Row(_open_hamer, lambda options: None if options.hamer_checkpoint else "--hamer-checkpoint FILE"),
    "palm": Row(_open_palm, lambda _options: None),
}
"""By the name that --backend and the results have. The first that lacks nothing is what `auto` means."""
