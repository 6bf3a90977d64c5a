"""The two clocks of a frame, told apart by the type checker. Pure.

Both are seconds in a float, and mixing them up is the error that no test with small numbers would find. ``NewType`` costs
one call where a value enters, so a column of many is cast as a whole.
"""

from typing import NewType

StreamTime = NewType("StreamTime", float)
"""Seconds by a stream's own clock: a frame's ``ts``, a slot, a ``next_ts``. Any origin; may jump and restart."""

RealTime = NewType("RealTime", float)
"""Seconds by this process's monotonic clock."""
