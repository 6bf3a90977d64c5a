"""HaMeR's output for the hands of a frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.hamer.geometry import Crops, Floats


@dataclass(frozen=True)
class HandPoses:
    """HaMeR's output for N hands of one frame, as parallel arrays. Left hands are un-mirrored.

    Attributes:
        crops: the squares of the frame that the network saw.
        keypoints_2d: (N, 21, 2) pixels of the frame; wrist, then thumb to little finger, each from its root to its tip.
        keypoints_3d: (N, 21, 3) metres; x right, y down, z forward; relative to the hand. Plus `translations`, they are
            in the frame's camera.
        cameras: (N, 3) s, tx, ty of the crop's weak perspective camera.
        translations: (N, 3) the hand's position in the frame's camera; metres if `focal` is the true one.
        focal: focal length of the frame's camera in pixels, by HaMeR's convention.
        rotations: (N, 16, 3, 3) MANO's rotations, for the right hand that the network saw.
        betas: (N, 10) MANO's shape coefficients.
        spreads: (N,) sine of the angle between the columns of the least certain rotation.
        finite: (N,) bool, false if the network's output has NaN or infinity; that hand's values mean nothing.
        vertices: (N, 778, 3) like `keypoints_3d`, or None.
    """

    crops: Crops
    keypoints_2d: Floats
    keypoints_3d: Floats
    cameras: Floats
    translations: Floats
    focal: float
    rotations: Floats
    betas: Floats
    spreads: Floats
    finite: NDArray[np.bool_]
    vertices: Floats | None

    def __len__(self) -> int:
        return len(self.cameras)

    def select(self, which: NDArray[np.bool_]) -> "HandPoses":
        """Returns the hands that a mask (N,) selects."""
        return HandPoses(
            crops=self.crops[which],
            keypoints_2d=self.keypoints_2d[which],
            keypoints_3d=self.keypoints_3d[which],
            cameras=self.cameras[which],
            translations=self.translations[which],
            focal=self.focal,
            rotations=self.rotations[which],
            betas=self.betas[which],
            spreads=self.spreads[which],
            finite=self.finite[which],
            vertices=None if self.vertices is None else self.vertices[which],
        )
