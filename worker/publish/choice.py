"""How much of a film or camera has to be decoded for the limit in force. Pure.

A picture can only be decoded together with those that it refers to, back to the last key frame. So frames that aren't due
can be left out in three ways, from the cheapest: all but key frames, all from the last frame that is due in a group of
pictures to the next key frame, and pictures that no other one refers to.
"""

from __future__ import annotations

import collections
import enum
import math
from typing import NamedTuple

from worker.publish.thinning import Due

_SAME = 1.002
"""Two rates that differ by less are the same: 30 and 29.97 per second differ by 1.001."""

_ENOUGH_REFERENCES = 0.9
"""Share of the pictures that others refer to up to which a limit takes no others: they don't come evenly."""

_SLACK_PERIODS = 0.1
"""How early a key frame may be expected after the due time of the next frame, for that to wait for it."""

_KEY_INTERVALS = 4
"""How many of the last intervals between key frames are remembered. The longest one counts."""

_AGAIN = 0.1
"""How much more may be decoded for a frame that is due, to need no decoder while none is."""

_PACKETS = 64
"""How many of the last packets show the source's rate and the share of references."""


class Decode(enum.Enum):
    """What is decoded."""

    NOTHING = enum.auto()
    KEY_FRAMES = enum.auto()
    """The key frames that are due."""
    REFERENCES = enum.auto()
    """From a key frame up to the last due frame before the next one, without pictures that no other refers to."""
    DUE = enum.auto()
    """From a key frame up to the last due frame before the next one, and pictures that no other refers to if due."""
    ALL = enum.auto()


class Arrived(NamedTuple):
    """What is known of a source from the packets that have arrived."""

    fps: float | None = None
    """Frames per second; None while it isn't known."""
    reference_share: float = 1.0
    """Share of the frames that others refer to, 0 to 1."""
    key_every: float | None = None
    """Longest recent time between two key frames, seconds; None while it isn't known."""
    whole_frames: bool = True
    """Whether each packet is a frame; a packet of an interlaced source may be half of one."""


def choose(arrived: Arrived, limit: float, catches_up: bool) -> Decode:
    """Returns what has to be decoded so that the admitted rate is the limit or the source's rate.

    Args:
        arrived: what is known of the source.
        limit: frames per second; 0 pauses, infinity lifts.
        catches_up: whether frames that come up to a period late lose nothing of the rate.
    """
    if limit == 0:
        return Decode.NOTHING
    if not arrived.whole_frames or math.isinf(limit) or (arrived.fps is not None and limit >= arrived.fps):
        return Decode.ALL
    if catches_up and arrived.key_every is not None and arrived.key_every * limit <= _SAME:
        return Decode.KEY_FRAMES
    if catches_up and arrived.fps is not None and limit <= _ENOUGH_REFERENCES * arrived.fps * arrived.reference_share:
        return Decode.REFERENCES
    return Decode.DUE


class Part(NamedTuple):
    """A packet, before it is decoded."""

    ts: float
    """Capture time of its frame, as far as that is known now; Unix seconds."""
    position: float
    """Place of its frame by the source's own clock, seconds; NaN if it has none."""
    is_key: bool
    """Whether it can be decoded on its own."""
    is_reference: bool
    """Whether other frames refer to it."""


class Treatment(enum.Enum):
    """What is done with a packet."""

    LEAVE_OUT = enum.auto()
    HOLD = enum.auto()
    """Decode it as soon as something that refers to it is decoded; if nothing is, don't."""
    DECODE = enum.auto()
    RESTART = enum.auto()
    """Decode it without what was decoded before, since something between was left out."""
    ALONE = enum.auto()
    """Decode it without what was decoded before, and without waiting for what comes after it."""


class Selection:
    """Decides packet by packet what is decoded; learns from the packets how much that has to be."""

    def __init__(self, whole_frames: bool = True, holds: bool = False) -> None:
        """Takes whether each packet is a frame, and whether packets may be held."""
        self._whole_frames = whole_frames
        self._may_hold = holds
        self._holds = False
        """Whether the last packet that others refer to was held."""
        self._times: collections.deque[float] = collections.deque(maxlen=_PACKETS)
        """Positions, or capture times as long as no packet has had a position: two clocks that can't be compared."""
        self._has_positions = False
        self._references: collections.deque[bool] = collections.deque(maxlen=_PACKETS)
        self._intervals: collections.deque[float] = collections.deque(maxlen=_KEY_INTERVALS)
        self._last_key: Part | None = None
        self._broken = True
        """Whether a packet was left out that others refer to, since the last key frame that was decoded."""
        self._restarted_at = -math.inf
        """Position of the key frame at which decoding began; frames before it refer to what was left out."""
        self._expected = (math.nan, math.inf)
        """The due time for which a frame is in the decoder, and the earliest capture time of such a frame."""

    @property
    def arrived(self) -> Arrived:
        """What is known of the source."""
        times, references = self._times, self._references
        span = max(times) - min(times) if len(times) > 1 else 0.0
        return Arrived(
            fps=(len(times) - 1) / span if span > 0 else None,
            reference_share=sum(references) / len(references) if references else 1.0,
            key_every=max(self._intervals) if self._intervals else None,
            whole_frames=self._whole_frames,
        )

    @property
    def waits_for_key(self) -> bool:
        """Whether nothing before the next key frame can be decoded any more."""
        return self._broken

    def decodes_again(self, fps: float) -> int:
        """Returns how many packets may be decoded twice for each frame that is due at a limit, frames per second."""
        arrived = self.arrived
        if arrived.fps is None or not 0 < fps < math.inf:
            return 0
        return int(_AGAIN * arrived.fps * arrived.reference_share / fps)

    def treat(self, part: Part, due: Due) -> Treatment:
        """Returns what is done with the next packet, in the order in which packets arrive."""
        self._learn(part)
        choice = choose(self.arrived, due.fps(), due.catches_up)
        if not self._wants(choice, part, due):
            self._broken = self._broken or part.is_reference
            self._holds = self._holds and not self._broken
            return Treatment.LEAVE_OUT
        if choice is Decode.KEY_FRAMES:
            self._broken, self._holds = True, False
            return Treatment.ALONE
        held, self._holds = self._holds, self._may_be_held(choice, part, due)
        if self._broken or (part.is_key and (held or self._holds)):
            self._broken, self._restarted_at = False, part.position
            return Treatment.HOLD if self._holds else Treatment.RESTART
        return Treatment.HOLD if self._holds else Treatment.DECODE

    def _may_be_held(self, choice: Decode, part: Part, due: Due) -> bool:
        """Returns whether the packet of a wanted frame is wanted only for frames after it."""
        return (
            self._may_hold
            and self._last_key is not None
            and choice in (Decode.REFERENCES, Decode.DUE)
            and not due.is_due(part.ts)
        )

    def _learn(self, part: Part) -> None:
        time = part.ts if math.isnan(part.position) else part.position
        if not math.isnan(part.position):
            if not self._has_positions:  # the first packet of an RTSP camera has none
                self._times.clear()
            self._has_positions = True
            self._times.append(time)
        else:  # it counts; when it was isn't known
            self._times.append(self._times[-1] if self._has_positions else time)
        self._references.append(part.is_reference)
        if not part.is_key:
            return
        if self._last_key is not None:
            before = self._last_key.ts if math.isnan(part.position) else self._last_key.position
            if time > before:  # false for NaN
                self._intervals.append(time - before)
        self._last_key = part

    def _wants(self, choice: Decode, part: Part, due: Due) -> bool:
        if choice is Decode.NOTHING:
            return False
        if (
            self._broken and not part.is_key and self._last_key
        ):  # a source without any key frame is refreshed piece by piece
            return False
        if part.position < self._restarted_at and not part.is_key:
            return False
        if choice is Decode.ALL:
            return True
        next_ts, is_due = due.next_ts(), due.is_due(part.ts)
        if choice is Decode.KEY_FRAMES:
            return part.is_key and is_due
        if not is_due and self._key_comes_first(next_ts, due):
            return False
        if not part.is_reference and not (
            choice is Decode.DUE and is_due and not self._is_expected(part, next_ts, due)
        ):
            return False
        if is_due:
            expected_for, ts = self._expected
            self._expected = next_ts, (min(ts, part.ts) if expected_for == next_ts else part.ts)
        return True

    def _key_comes_first(self, next_ts: float, due: Due) -> bool:
        """Returns whether the next key frame comes before a frame is due, or hardly later."""
        if self._last_key is None or not self._intervals:
            return False
        slack = _SLACK_PERIODS / due.fps() if due.catches_up else 0.0
        return next_ts >= self._last_key.ts + max(self._intervals) - slack

    def _is_expected(self, part: Part, next_ts: float, due: Due) -> bool:
        """Returns whether the decoder already has the frame that is due, and this one comes before the next that will be."""
        expected_for, ts = self._expected
        return expected_for == next_ts and ts < part.ts < next_ts + 1 / due.fps()
