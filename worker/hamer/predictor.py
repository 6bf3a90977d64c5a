"""Arrays in, arrays out: a frame and boxes of hands become joints, cameras and meshes of those hands.

The numpy side of the network. It owns the device, the precision and the moves to and fro.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hamer.batcher import plan_batches
from worker.hamer.checkpoint import BRAIN, FULL, HALF, Precision, load_hamer
from worker.hamer.engine import Engine, Rows
from worker.hamer.errors import CheckpointError, DeviceError, WeightsOverflowError
from worker.hamer.geometry import (
    Crops,
    Floats,
    crop_to_frame,
    crops_of_boxes,
    frame_focal,
    frame_translations,
    sample_crops,
    unmirror,
)
from worker.hamer.poses import HandPoses

logger = logging.getLogger(__name__)

PRECISIONS = {precision.name: precision for precision in (FULL, HALF, BRAIN)}


class HamerPredictor:
    """HaMeR on one device.

    Args:
        engine: the network, ready to run.
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
            mano: MANO_RIGHT.pkl, needed only where the checkpoint lacks the hand model.
            device: "auto" takes a GPU where there is one; else as torch calls it.
            precision: "auto", "float32", "float16" or "bfloat16". Auto takes float16 on a GPU, or bfloat16 where
                float16 overflows; on a CPU bfloat16 if the processor computes with it, else float32.
            mesh: whether vertices are wanted, too; joints alone cost less.

        Raises:
            CheckpointError: a file is missing or broken.
            DeviceError: there is no such device.
        """
        where = choose_device(device)
        candidates = choose_precisions(where) if precision == "auto" else [_named(precision)]
        for candidate in candidates:
            try:
                engine = Engine(load_hamer(checkpoint, mano=mano, precision=candidate, device=where), mesh=mesh)
                if not engine.is_finite():
                    raise WeightsOverflowError(f"{checkpoint}: the network overflows in {candidate.name}")
            except WeightsOverflowError as e:
                if candidate is candidates[-1]:
                    raise
                logger.warning("%s; trying %s", e, candidates[candidates.index(candidate) + 1].name)
                continue
            logger.info("HaMeR on %s in %s", where, candidate.name)
            return cls(engine)
        raise AssertionError("no precision to try")

    @property
    def faces(self) -> NDArray[np.int64]:
        """Triangles (1538, 3) of a right hand's vertices; swap two columns for a left hand."""
        faces: NDArray[np.int64] = self._model.mano.faces.cpu().numpy()
        return faces

    def crop(self, image: NDArray[np.uint8], crops: Crops) -> torch.Tensor:
        """Cuts crops out of a frame (H, W, 3) uint8 BGR: (N, 3, 256, 192) on the device. Safe in any thread."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a frame must be (H, W, 3) uint8; got {image.shape} {image.dtype}")
        model = self._model
        with torch.inference_mode():
            # torch insists on writable memory, though nobody writes here; only a read-only frame is copied for it.
            frame = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.engine.device)
            return sample_crops(frame, crops, model.mean, model.std, image_size=model.image_size)

    def poses(self, rows: Rows, crops: Crops, width: int, height: int) -> HandPoses:
        """Takes the network's rows (N, ...) to the frame of `width` x `height` pixels that the crops are of."""
        out = self.engine.unpack(rows)
        finite = np.asarray(np.isfinite(rows).all(axis=1))
        focal = frame_focal(width, height, self._model.focal, self._model.image_size)
        cameras = _floats(out.camera)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return HandPoses(
                crops=crops,
                keypoints_2d=crop_to_frame(_floats(out.keypoints_2d), crops),
                keypoints_3d=unmirror(_floats(out.keypoints_3d), crops),
                cameras=cameras,
                translations=frame_translations(cameras, crops, width, height, focal),
                focal=focal,
                rotations=_floats(out.rotations),
                betas=_floats(out.betas),
                spreads=_floats(out.spread),
                finite=finite,
                vertices=None if out.vertices is None else unmirror(_floats(out.vertices), crops),
            )

    def predict(self, image: NDArray[np.uint8], boxes: NDArray[np.floating], is_right: NDArray[np.bool_]) -> HandPoses:
        """Does all of it for one frame and one caller.

        Args:
            image: (H, W, 3) uint8, BGR.
            boxes: (N, 4) x0, y0, x1, y1 in pixels, tight around each hand.
            is_right: (N,) which hands are right ones.
        """
        squares = crops_of_boxes(boxes, is_right)
        pixels = self.crop(image, squares)
        plan = plan_batches(len(squares), self.engine.buckets, self.engine.buckets[-1])
        rows = [self.engine.forward(part) for part in torch.split(pixels, plan)] if plan else []
        together = np.concatenate([np.empty((0, self.engine.row_length), np.float32), *rows])
        return self.poses(together, squares, image.shape[1], image.shape[0])


def choose_device(name: str) -> torch.device:
    """Gives the device that a user means.

    Raises:
        DeviceError: this machine hasn't got it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise DeviceError(f"no device is called {name!r}") from e
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"HaMeR runs on cpu or cuda, not on {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"{name!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices")
    return device


def choose_precisions(device: torch.device) -> list[Precision]:
    """Gives the precisions worth trying on a device, the best first."""
    if device.type == "cuda":
        return [HALF, BRAIN]
    features = torch.cpu.get_capabilities()
    return [BRAIN] if features.get("avx512_bf16") or features.get("amx_bf16") else [FULL]


def _named(precision: str) -> Precision:
    try:
        return PRECISIONS[precision]
    except KeyError:
        raise CheckpointError(f"precision must be auto, {', '.join(PRECISIONS)}; got {precision!r}") from None


def _floats(tensor: torch.Tensor) -> Floats:
    return tensor.numpy().astype(np.float64)
