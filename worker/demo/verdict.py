"""Compares the achieved rates and counts with the configured limits and the truth. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.queue.frame import SkipReason

RATE_SHARE = 0.05
RATE_FRAMES = 2.0
"""Tolerance of an achieved rate: this share of the expected frames, or this many frames, whichever is more."""

RIGHT_SHARE = 0.9
"""Share of the counted frames whose number of hands must be the true one."""

LIMITED = (SkipReason.TOO_SOON, SkipReason.PAUSED)
"""The only expected reasons to skip a frame; any other means that something failed or was too slow."""


@dataclass(frozen=True)
class Row:
    """One stream in one phase. A frame's ts determines its phase."""

    phase: int
    """From 1."""
    stream_name: str
    source_fps: float
    """Nominal."""
    configured: float
    """The limit in force, frames per second."""
    set_by: str
    seconds: float
    """Length of the phase, by the frames' own clock."""
    published: int
    counted: int
    """Frames, as `published`."""
    true_hands: int
    """Hands in the counted frames; as `counted_hands`."""
    counted_hands: int
    right: int
    """Counted frames with the true number of hands."""

    @property
    def expected(self) -> float:
        """Frames that should have been counted: at most those of the source."""
        return min(self.configured, self.source_fps) * self.seconds

    @property
    def tolerance(self) -> float:
        """Frames by which `counted` may differ from `expected`; 0 for a paused stream."""
        return max(RATE_SHARE * self.expected, RATE_FRAMES) if self.configured > 0 else 0.0

    @property
    def achieved(self) -> float:
        """Frames counted per second, by the frames' own clock."""
        return self.counted / self.seconds if self.seconds else 0.0

    @property
    def skipped(self) -> int:
        """Frames that were published but not counted: their pictures were neither fetched nor decoded."""
        return self.published - self.counted

    @property
    def off(self) -> bool:
        """Whether the rate differs from the configured one by more than the tolerance."""
        return abs(self.counted - self.expected) > self.tolerance + 1e-9


def faults(rows: Sequence[Row], accounting: Mapping[str, int]) -> list[str]:
    """Returns a sentence for each deviation.

    Args:
        rows: every stream in every phase.
        accounting: the worker's counters of all frames, in the phases and between them: received, counted,
            skipped:<reason>, dead:<reason>.
    """
    found = [
        f"{row.stream_name} in phase {row.phase}: counted {row.counted} frames in {row.seconds:.1f} s, {row.achieved:.2f} fps; "
        f"expected {row.expected:.1f} at {min(row.configured, row.source_fps):g} fps, with a tolerance of {row.tolerance:.1f}"
        for row in rows
        if row.off
    ]
    counted, right = sum(row.counted for row in rows), sum(row.right for row in rows)
    if not counted:
        found.append("no frame was counted")
    elif right < RIGHT_SHARE * counted:
        found.append(
            f"the number of hands was right in {right} of {counted} frames, {right / counted:.0%}; expected {RIGHT_SHARE:.0%}"
        )
    expected = {"received", "counted", *(f"skipped:{reason.value}" for reason in LIMITED)}
    found += [
        f"{number} frames were settled as {name}"
        for name, number in accounting.items()
        if number and name not in expected
    ]
    received = accounting.get("received", 0)
    ended = sum(number for name, number in accounting.items() if name != "received")
    if received != ended:
        found.append(f"{received} frames were received, but {ended} were settled")
    return found
