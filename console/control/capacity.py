"""What the limits ask of the workers, and when these can't count more: the rules that all tools share. Pure.

Nobody knows how much workers can count until they are full: while they keep up, they count what is asked. They are full while
admitted frames are superseded by newer ones or become too old in the queue, and then what they count is what they can count.
"""

from collections.abc import Mapping
from typing import Final

from console.control.states import State

FULL_SHARE: Final = 0.02
"""Share of the admitted frames whose turn didn't come above which the workers are full."""
FULL_FPS: Final = 0.05
"""Frames per second that are given up, above which the share counts: single frames say nothing."""
FULL_FRAMES: Final = 2
"""Frames given up between two readings, below which these say nothing."""

_DELIVERS_NOTHING: Final = frozenset({State.SILENT, State.LOST, State.UNSEEN, State.PAUSED})


def asked_fps(state: str, limit: float | None, source_fps: float | None) -> float:
    """Returns the frames per second that a stream asks for: of what its camera delivers, as much as its limit lets through.

    Args:
        state: of the stream, see :class:`State`.
        limit: in force; None: unknown, as if there were none.
        source_fps: what its camera delivers; None: unknown, as if it were nothing.
    """
    if state in _DELIVERS_NOTHING or not source_fps:
        return 0.0
    return source_fps if limit is None else min(limit, source_fps)


def given_up(accounting: Mapping[str, int]) -> int:
    """Returns how many admitted frames were given up, because a newer one superseded them or they became too old."""
    return accounting.get("skipped:superseded", 0) + accounting.get("skipped:stale", 0)


def is_full(counted_fps: float, given_up_fps: float) -> bool:
    """Returns whether workers that count so much and give up so much, in frames per second, can't count more."""
    return given_up_fps > FULL_SHARE * (counted_fps + given_up_fps) and given_up_fps > FULL_FPS


def full_rate(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> float | None:
    """Returns the frames per second that full workers count; None if they aren't full, so that it isn't known.

    Args:
        before: the accounting.
        after: the accounting so many seconds later.
        seconds: more than 0.
    """
    counted, lost = after.get("counted", 0) - before.get("counted", 0), given_up(after) - given_up(before)
    if counted < 0 or lost < FULL_FRAMES or not is_full(counted / seconds, lost / seconds):
        return None
    return counted / seconds
