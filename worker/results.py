"""The result of a counted frame, and its JSON: worker/schemas/frame_result.v1.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from worker.hands.detection import Hands
    from worker.picture import Picture

VERSION = 1
"""Version of the schema. A new field leaves it as it is; a removed, renamed or redefined field raises it."""

SCHEMA = Path(__file__).parent / "schemas" / f"frame_result.v{VERSION}.json"


@dataclass(frozen=True)
class FrameResult:
    """The hands of one frame."""

    stream_name: str
    ts: float
    """Capture time, seconds by the frame's own clock."""
    backend: str
    """Name of the detector that found the hands."""
    engine: str
    """What ran the detector's networks."""
    width: int
    """Width of the picture, pixels."""
    height: int
    """Height of the picture, pixels."""
    hands: Hands
    """In pixels of the picture, highest score first."""
    decode_s: float
    """Seconds to decode the picture; 0 if it came as an array."""
    detect_s: float
    """Seconds to find the hands."""
    hand_count_smoothed: int | None = None
    """Median of the stream's last counts; None if there are none, or too few."""
    picture: Picture | None = field(default=None, repr=False, compare=False)
    """The decoded picture; no part of the JSON."""

    @property
    def hand_count(self) -> int:
        """Number of hands found."""
        return len(self.hands)

    def fields(self, entry_id: str | None = None, queue_age_s: float | None = None) -> dict[str, object]:
        """Returns the object of the schema.

        Args:
            entry_id: the queue's entry; None for a frame that came another way.
            queue_age_s: the entry's age when counting began, seconds; None for a frame that came another way.
        """
        return {
            "version": VERSION,
            "entry_id": entry_id,
            "stream_name": self.stream_name,
            "ts": self.ts,
            "backend": self.backend,
            "engine": self.engine,
            "image": {"width": self.width, "height": self.height},
            "hand_count": self.hand_count,
            "hand_count_smoothed": self.hand_count_smoothed,
            "hands": _hands(self.hands),
            "timings": {
                "queue_age": None if queue_age_s is None else round(queue_age_s, 4),
                "decode": round(self.decode_s, 6),
                "detect": round(self.detect_s, 6),
            },
        }

    def to_json(self, entry_id: str | None = None, queue_age_s: float | None = None) -> str:
        """Returns `fields` as JSON."""
        return json.dumps(self.fields(entry_id, queue_age_s), allow_nan=False, separators=(",", ":"))


def _hands(hands: Hands) -> list[dict[str, object]]:
    """Returns one object per hand. Coordinates have two decimals, far finer than any detector."""
    columns = zip(
        hands.boxes.astype(float).round(2).tolist(),
        hands.is_right.tolist(),
        hands.scores.astype(float).round(4).tolist(),
        hands.keypoints.astype(float).round(2).tolist(),
        [bool(np.isfinite(keypoints).all()) for keypoints in hands.keypoints],
        hands.details(),
        strict=True,
    )
    return [
        {"box": box, "is_right": is_right, "score": score, "keypoints": keypoints if known else None, **details}
        for box, is_right, score, keypoints, known, details in columns
    ]
