"""What the worker tells about a counted frame: worker/schemas/frame_result.v1.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from worker.hands.detection import Hands

VERSION = 1
"""Of the schema. A new field doesn't change it; a field removed, renamed or given another meaning does."""

SCHEMA = Path(__file__).parent / "schemas" / f"frame_result.v{VERSION}.json"


@dataclass(frozen=True)
class FrameResult:
    """The hands of one frame."""

    stream_name: str
    ts: float
    """Capture time by the frame's own clock, seconds."""
    backend: str
    """What found the hands."""
    width: int
    """Of the picture, pixels; so is height."""
    height: int
    hands: Hands
    """In pixels of the picture, the surest first."""
    decode_s: float
    """What it took to decode the picture; 0 where it came as an array."""
    detect_s: float
    """What it took to find the hands."""

    @property
    def hand_count(self) -> int:
        """How many hands were found."""
        return len(self.hands)

    def to_json(self, entry_id: str | None = None, queue_age_s: float | None = None) -> str:
        """Gives the JSON of the schema, for an entry of the queue that had this age when the work on it began."""
        return json.dumps(
            {
                "version": VERSION,
                "entry_id": entry_id,
                "stream_name": self.stream_name,
                "ts": self.ts,
                "backend": self.backend,
                "image": {"width": self.width, "height": self.height},
                "hand_count": self.hand_count,
                "hands": _hands(self.hands),
                "timings": {
                    "queue_age": None if queue_age_s is None else round(queue_age_s, 4),
                    "decode": round(self.decode_s, 6),
                    "detect": round(self.detect_s, 6),
                },
            },
            allow_nan=False,
            separators=(",", ":"),
        )


def _hands(hands: Hands) -> list[dict[str, object]]:
    """Coordinates with two decimals: a hundredth of a pixel is far below what any detector knows."""
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
