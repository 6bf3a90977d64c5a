"""The published and the counted frames of each stream, by the frames' own clock."""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.demo.plan import DemoCamera, Limit
from worker.demo.verdict import Row
from worker.publish.simulated import SimulatedCamera


@dataclass(frozen=True)
class Counted:
    """A counted frame."""

    ts: float
    true_hands: int
    counted_hands: int
    result: Mapping[str, Any]
    """The worker's result: worker/schemas/frame_result.v1.json."""


class StreamLedger:
    """The frames of one stream. The sender's thread appends to `published`; one other thread uses the rest."""

    def __init__(self, camera: DemoCamera, source: SimulatedCamera) -> None:
        """Takes the camera's source, which knows the true number of hands of each frame."""
        self.camera = camera
        self.published: list[float] = []
        """Capture times, in order."""
        self.counted: list[Counted] = []
        """In order of capture times."""
        self.source = source

    def add_result(self, text: bytes) -> None:
        """Adds a result as the worker wrote it."""
        result = json.loads(text)
        row = Counted(result["ts"], self.source.true_hands(result["ts"]), result["hand_count"], result)
        bisect.insort(
            self.counted, row, key=lambda counted: counted.ts
        )  # several threads count, so not always in order

    def row(self, phase: int, limit: Limit, start: float, end: float) -> Row:
        """Returns the totals of the frames with start <= ts < end, Unix seconds."""
        counted = [frame for frame in self.counted if start <= frame.ts < end]
        return Row(
            phase=phase,
            stream_name=self.camera.stream_name,
            source_fps=self.camera.fps,
            configured=limit.fps,
            set_by=limit.set_by,
            seconds=end - start,
            published=bisect.bisect_left(self.published, end) - bisect.bisect_left(self.published, start),
            counted=len(counted),
            true_hands=sum(frame.true_hands for frame in counted),
            counted_hands=sum(frame.counted_hands for frame in counted),
            right=sum(frame.true_hands == frame.counted_hands for frame in counted),
        )
