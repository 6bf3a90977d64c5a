"""The result of a counted frame, and its JSON: worker/schemas/frame_result.v1.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.hands.detection import Dropped, Hands
from worker.hands.outputs import DETECTED, WRITTEN, Output, Unit

if TYPE_CHECKING:
    from worker.picture import Picture

VERSION = 1
"""Version of the schema. A new field leaves it as it is; a removed, renamed or redefined field raises it."""

SCHEMA = Path(__file__).parent / "schemas" / f"frame_result.v{VERSION}.json"

_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


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
            "hands": hand_objects(self.hands),
            "timings": {
                "queue_age": None if queue_age_s is None else round(queue_age_s, 4),
                "decode": round(self.decode_s, 6),
                "detect": round(self.detect_s, 6),
            },
        }

    def to_json(self, entry_id: str | None = None, queue_age_s: float | None = None) -> str:
        """Returns `fields` as JSON."""
        return _ENCODER.encode(self.fields(entry_id, queue_age_s))


def hand_objects(hands: Hands) -> list[dict[str, object]]:
    """Returns the JSON of each hand: the fields that the table (worker/hands/outputs.py) has for what is known of it."""
    if not len(hands):
        return []  # most pictures have none
    values = hands.values()
    columns = {output.field: _column(output, values[output.name]) for output in WRITTEN if output.name in values}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(output: Output, values: NDArray[Any]) -> list[object]:
    """Returns one value of all hands, with the table's decimals: far finer than any detector."""
    if output.unit is Unit.FLAG:
        return list(values.tolist())
    unknown: list[bool] = []
    if output.nullable:
        unknown = np.isnan(values).any(axis=tuple(range(1, values.ndim))).tolist()
        if all(unknown):
            return [None] * len(unknown)
    column: list[object] = np.asarray(values, np.float64).round(output.decimals).tolist()
    if any(unknown):
        return [None if is_unknown else value for value, is_unknown in zip(column, unknown, strict=True)]
    return column


def dropped_objects(dropped: Dropped) -> list[dict[str, object]]:
    """Returns the JSON of each hand that was found and isn't counted, with the reason."""
    hands = hand_objects(dropped.hands)
    return [{**hand, "reason": str(verdict)} for hand, verdict in zip(hands, dropped.verdicts, strict=True)]


def hands_of_objects(objects: Sequence[Mapping[str, Any]]) -> Hands:
    """Returns the detected values of hands from their JSON; what HaMeR adds is left out."""
    arrays: dict[str, NDArray[Any]] = {}
    for output in DETECTED:
        dtype = np.bool_ if output.unit is Unit.FLAG else np.float32
        column = [each[output.field] for each in objects]
        unknown = np.full(output.shape, np.nan)
        rows = [unknown if value is None else value for value in column]
        arrays[output.name] = np.array(rows, dtype).reshape(-1, *output.shape)
    return Hands(**arrays)
