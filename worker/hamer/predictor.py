"""The numpy side of the network: crops of a frame in; joints, cameras and meshes of its hands out.

It owns the device, the precision and the transfers in both directions.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hamer.checkpoint import BRAIN, FULL, HALF, Precision, load_hamer
from worker.hamer.engine import Engine
from worker.hamer.errors import CheckpointError, WeightsOverflowError
from worker.hamer.geometry import Crops, sample_crops
from worker.hamer.poses import HandPoses
from worker.hamer.rows import Rows
from worker.hamer.streams import Cropped
from worker.hands.device.choice import choose_device
from worker.hands.networks import Uploaded

logger = logging.getLogger(__name__)

PRECISIONS = {precision.name: precision for precision in (FULL, HALF, BRAIN)}


class HamerPredictor:
    """HaMeR on one device.

    Args:
        engine: runs the network.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._model = engine.model

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        mano: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        mesh: bool = False,
    ) -> "HamerPredictor":
        """Loads the official checkpoint onto a device.

        Args:
            checkpoint: hamer.ckpt, with model_config.yaml beside it or in the folder above.
            mano: MANO_RIGHT.pkl, needed only if the checkpoint has no hand model.
            device: torch's name of a device; "auto" means a GPU if there is one, else the CPU.
            precision: "auto", "float32", "float16" or "bfloat16". On a GPU, auto means float16, or bfloat16 if float16
                overflows; on a CPU bfloat16 if the processor computes with it, else float32.
            mesh: also computes the vertices; the joints alone cost less.

        Raises:
            CheckpointError: a file is missing or damaged.
            DeviceError: there is no such device, or it doesn't work.
        """
        where = choose_device(device)
        candidates = choose_precisions(where) if precision == "auto" else [_named(precision)]
        for candidate in candidates:
            try:
                engine = Engine(load_hamer(checkpoint, mano=mano, precision=candidate, device=where), mesh=mesh)
                # Only float16 has a range that good weights can exceed, and on a CPU a trial takes seconds.
                if candidate is HALF and not engine.is_finite():
                    raise WeightsOverflowError(f"{checkpoint}: the network's numbers overflow in {candidate.name}")
            except WeightsOverflowError as e:
                if candidate is candidates[-1]:
                    raise
                following = candidates[candidates.index(candidate) + 1]
                logger.warning("trying another precision", extra={"precision": following.name, "reason": str(e)})
                continue
            logger.info("HaMeR is loaded", extra={"device": str(where), "precision": candidate.name})
            return cls(engine)
        raise AssertionError("no precision to try")

    @property
    def faces(self) -> NDArray[np.int64]:
        """Triangles (1538, 3) of a right hand's vertices; for a left hand two columns change places."""
        faces: NDArray[np.int64] = self._model.mano.faces.cpu().numpy()
        return faces

    def crop(self, image: NDArray[np.uint8], crops: Crops, uploaded: Uploaded | None = None) -> Cropped:
        """Starts to make crops (N, 3, 256, 192) of a frame (H, W, 3) uint8 BGR on the device. Safe in any thread.

        The frame may be changed once the call has returned.

        Args:
            image: the frame.
            crops: where they are.
            uploaded: the frame's copy on the detector's device: if that is this device, the frame isn't copied once more. It is
                read until the crops are `ready`.
        """
        model, streams = self._model, self.engine.streams
        with torch.inference_mode(), streams.uploading():
            is_here = uploaded is not None and uploaded.pixels.device == model.mean.device
            frame = uploaded.pixels if uploaded is not None and is_here else streams.upload(image)
            pixels = sample_crops(frame, crops, model.mean, model.std, image_size=model.image_size)
            return Cropped(pixels, streams.record())

    def poses(self, rows: Rows, crops: Crops, width: int, height: int) -> HandPoses:
        """Converts the network's rows (N, length) to hands in the crops' frame of `width` x `height` pixels."""
        model = self._model
        return HandPoses.of_rows(rows, self.engine.layout, crops, width, height, model.focal, model.image_size)


def choose_precisions(device: torch.device) -> list[Precision]:
    """Returns the precisions to try on a device, the best first."""
    if device.type == "cuda":
        return [HALF, BRAIN]
    features = torch.cpu.get_capabilities()
    return [BRAIN] if features.get("avx512_bf16") or features.get("amx_bf16") else [FULL]


def _named(precision: str) -> Precision:
    try:
        return PRECISIONS[precision]
    except KeyError:
        raise CheckpointError(f"precision must be auto, {', '.join(PRECISIONS)}; got {precision!r}") from None
