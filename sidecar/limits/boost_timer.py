"""Ends boosts when their time has come."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from sidecar.limits.table import FpsTable

LOOK_EVERY_S: Final = 1.0
"""The clock of a machine may be set, so nobody sleeps for longer while there is a boost."""


class BoostTimer:
    """Ends the boosts of a table, whether or not Redis is reachable.

    Args:
        table: Has the boosts.
        wall_clock: Unix seconds, as the table's.
    """

    def __init__(self, table: FpsTable, wall_clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._wall_clock = wall_clock
        self._changed = asyncio.Event()
        table.on_boost = self._changed.set

    async def run(self) -> None:
        """Runs until cancelled. While there is no boost it does nothing."""
        while True:
            self._changed.clear()
            self._table.end_boosts()
            end = self._table.next_boost_end()
            wait_s = None if end is None else min(max(end - self._wall_clock(), 0.0), LOOK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
