"""When a stream counts as silent: the rule that all tools share. Pure."""

from typing import Final

SILENT_S: Final = 10.0
"""Seconds without a frame after which a stream is silent, at least; see :func:`silent_after`."""

_PERIODS: Final = 3.0


def silent_after(limit: float | None) -> float:
    """Returns after how many seconds without a frame a stream is silent.

    A publisher that thins sends only the frames that are due, so a slow stream is expected to be quiet for 3 periods.

    Args:
        limit: The fps in force; None: unknown.
    """
    return SILENT_S if not limit else max(SILENT_S, _PERIODS / limit)
