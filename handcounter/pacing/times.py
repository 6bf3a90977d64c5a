"""The two clocks of a frame, as types, so that the type checker finds a value of one where the other belongs. Pure.

Both are seconds in a float, and a mix-up is an error that tests with small numbers don't show. ``NewType`` costs a call
for each value, so a column of many is cast as a whole.
"""

from typing import NewType

StreamTime = NewType("StreamTime", float)
"""Seconds by a stream's own clock: a frame's ``ts``, a slot, a ``next_ts``. Any origin; may jump and restart."""

RealTime = NewType("RealTime", float)
"""Seconds by this process's monotonic clock."""
