"""What was achieved against what was configured, and whether that is good enough. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.queue.frame import SkipReason

RATE_SHARE = 0.05
RATE_FRAMES = 2.0
"""An achieved rate may be off by this share of the frames expected, or by so many frames, whichever is more."""

RIGHT_SHARE = 0.9
"""So many of the counted frames must have as many hands as the camera drew."""

LIMITED = (SkipReason.TOO_SOON, SkipReason.PAUSED)
"""The only reasons to skip a frame here; any other means that something was too slow or went wrong."""


@dataclass(frozen=True)
class Row:
    """One stream in one phase. A frame belongs to a phase by its ts, by the frame's own clock."""

    phase: int
    """From 1."""
    stream_name: str
    source_fps: float
    """Nominal."""
    configured: float
    """The limit in force, frames per second."""
    set_by: str
    seconds: float
    """How long the phase was, by the frames' clock."""
    published: int
    counted: int
    """Frames."""
    true_hands: int
    """In the counted frames; so are the two below."""
    counted_hands: int
    right: int
    """Frames in which as many hands were counted as there are."""

    @property
    def expected(self) -> float:
        """Frames that should have been counted: no limit gives more than the source has."""
        return min(self.configured, self.source_fps) * self.seconds

    @property
    def tolerance(self) -> float:
        """Frames by which that may be missed; a paused stream gets none."""
        return max(RATE_SHARE * self.expected, RATE_FRAMES) if self.configured > 0 else 0.0

    @property
    def achieved(self) -> float:
        """Frames counted per second of the frames' clock."""
        return self.counted / self.seconds if self.seconds else 0.0

    @property
    def skipped(self) -> int:
        """Frames that were published and not counted: never fetched, never decoded."""
        return self.published - self.counted

    @property
    def off(self) -> bool:
        """Whether the rate isn't what was configured."""
        return abs(self.counted - self.expected) > self.tolerance + 1e-9


def faults(rows: Sequence[Row], accounting: Mapping[str, int]) -> list[str]:
    """Says what was not as it should be, a sentence each.

    Args:
        rows: every stream in every phase.
        accounting: the worker's own account of all frames, the phases' and those between them: received, counted,
            skipped:<reason>, dead:<reason>.
    """
    found = [
        f"{row.stream_name} in phase {row.phase}: {row.counted} frames in {row.seconds:.1f} s, {row.achieved:.2f} fps, "
        f"where {min(row.configured, row.source_fps):g} fps make {row.expected:.1f} (at most {row.tolerance:.1f} off)"
        for row in rows
        if row.off
    ]
    counted, right = sum(row.counted for row in rows), sum(row.right for row in rows)
    if not counted:
        found.append("no frame was counted")
    elif right < RIGHT_SHARE * counted:
        found.append(
            f"the hands were right in {right} of {counted} frames, {right / counted:.0%}; {RIGHT_SHARE:.0%} are needed"
        )
    wanted = {"received", "counted", *(f"skipped:{reason.value}" for reason in LIMITED)}
    found += [
        f"{number} frames ended as {name}" for name, number in accounting.items() if number and name not in wanted
    ]
    received = accounting.get("received", 0)
    ended = sum(number for name, number in accounting.items() if name != "received")
    if received != ended:
        found.append(f"{received} frames were received and {ended} ended")
    return found
