"""HaMeR's output for the hands of a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.hamer.geometry import Crops, crop_to_frame, frame_focal, frame_translations, unmirror
from worker.hamer.rows import RowLayout, Rows
from worker.hands.geometry import Doubles
from worker.hands.outputs import COMPUTED, Unit

TO_FRAME = {Unit.METRES: unmirror, Unit.PIXELS: crop_to_frame}
"""How the network's points become the frame's: it sees a right hand in a crop."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HandPoses:
    """HaMeR's output for N hands of one frame, as parallel arrays. Left hands are un-mirrored.

    The table in worker/hands/outputs.py says what each array holds, and with which shape.

    Attributes:
        crops: the squares of the frame that the network saw.
        finite: (N,) bool, false if the network's output has NaN or infinity; that hand's values mean nothing.
        vertices: None if only the joints were requested.
    """

    crops: Crops
    finite: NDArray[np.bool_]
    keypoints_3d: Doubles
    cameras: Doubles
    translations: Doubles
    focals: Doubles
    rotations: Doubles
    betas: Doubles
    keypoints_2d: Doubles
    spreads: Doubles
    vertices: Doubles | None = None

    @classmethod
    def of_rows(
        cls, rows: Rows, layout: RowLayout, crops: Crops, width: int, height: int, focal: float, image_size: int
    ) -> "HandPoses":
        """Converts the network's rows to hands in the frame.

        Args:
            rows: (N, length) of the crops.
            layout: of the rows.
            crops: N squares of the frame.
            width: of the frame in pixels.
            height: of the frame in pixels.
            focal: of the crop's camera, pixels.
            image_size: side of the crop in pixels.
        """
        seen = layout.split(rows)
        focal = frame_focal(width, height, focal, image_size)
        values: dict[str, Doubles] = {}
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for output in COMPUTED:
                if output.name in seen:
                    value = seen[output.name].astype(np.float64)
                    convert = TO_FRAME.get(output.unit)
                    values[output.name] = convert(value, crops) if convert else value
            translations = frame_translations(values["cameras"], crops, width, height, focal)
        return cls(
            crops=crops,
            finite=np.asarray(np.isfinite(rows).all(axis=1)),
            translations=translations,
            focals=np.full(len(rows), focal),
            **values,
        )

    def __len__(self) -> int:
        return len(self.cameras)

    def select(self, which: NDArray[np.bool_]) -> "HandPoses":
        """Returns the hands that a mask (N,) selects."""
        selected: dict[str, Any] = {name: None if array is None else array[which] for name, array in vars(self).items()}
        return HandPoses(**selected)
