"""The claim: a frame's admission decided in Redis, where all replicas meet (``claim.lua``).

This module is the format of claims: their keys, and how they travel to the script and back. It does no I/O. Doubles
travel as their 8 bytes, so both sides compute with exactly the same numbers. ``fleet`` decides what to claim,
``claim_queue`` sends it.

    stream_fps_slot:{TAG}:NAME  the state of a stream's schedule, a string; with a TTL. TAG spreads the streams over a cluster
    stream_fps_slot:DB          a channel: the states that claims change; DB is the number of the database
    stream_fps_replicas         a sorted set: the replicas, and when each was last alive
"""

import enum
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import NamedTuple

from handcounter.pacing.schedule import CREDIT_PERIODS, LATE_WINDOW_S, TOLERANCE_S, Pacing, Reason
from handcounter.pacing.times import StreamTime
from sidecar.fleet.reorder import MOST_EARLIER, REORDER_WINDOW_S

KEY_PREFIX = "stream_fps_slot"
"""State keys are ``stream_fps_slot:{TAG}:NAME``."""

TAG_COUNT = 64
"""Number of hash tags of the state keys. On a cluster the claims of a batch travel in at most that many calls."""

REPLICAS_KEY = "stream_fps_replicas"
"""The key of the sorted set of heartbeats."""

SHORTEST_TTL_S = 3600.0
"""A state key expires after this or two periods, whichever is longer."""

REPLICA_GONE_S = 5.0
"""A replica without a heartbeat for this long isn't counted any more."""

MOST_CLAIMS_PER_CALL = 256
"""Bounds how long one call of the script blocks Redis: about 2 ms."""

UNMERGED = math.inf
"""The version of a state with admissions that Redis doesn't know of."""

CLAIM_SCRIPT = resources.files("sidecar.fleet").joinpath("claim.lua").read_text()
HEARTBEAT_SCRIPT = resources.files("sidecar.fleet").joinpath("heartbeat.lua").read_text()

_CONSTANTS = struct.Struct("<dddddBB")
_STATE = struct.Struct("<dddddB")
_EARLIER = [struct.Struct(f"<{count}d") for count in range(MOST_EARLIER + 1)]
_FRAME = struct.Struct("<Idd")
_LENGTH = struct.Struct("<H")


class State(NamedTuple):
    """A stream's timing state as it travels; see :class:`sidecar.fleet.reorder.Trail` and its schedule."""

    slot: StreamTime
    last_ts: StreamTime
    age: float
    """Seconds since the last admission. Real time differs between processes, time spans don't."""
    version: float
    """Grows with each change of the stream's state; 0 if there is no state."""
    base: StreamTime = StreamTime(0.0)
    earlier: tuple[StreamTime, ...] = ()


NO_STATE = State(StreamTime(0.0), StreamTime(0.0), 0.0, 0.0)


class Claim(NamedTuple):
    """One frame to be decided in Redis."""

    stream_name: str
    ts: StreamTime
    fps: float
    """The limit in force, frames per second."""
    known: State
    """What this replica knows of the stream, for the case that Redis knows less."""


class Claimed(NamedTuple):
    """The answer to a claim: the reason, and the stream's state after it."""

    reason: Reason
    state: State


class Missing(enum.Enum):
    """Why there is no answer to a claim."""

    LATE = enum.auto()
    """It didn't arrive in time. Redis may have decided the frame all the same."""
    UNREACHABLE = enum.auto()
    """Redis is known to be unreachable or too slow, or it rejected the claim."""


def tag_of(stream_name: str) -> int:
    """Returns the number of the stream's hash tag, below TAG_COUNT."""
    return zlib.crc32(stream_name.encode()) % TAG_COUNT


def tag_key(tag: int) -> bytes:
    """Returns the part of a state key that determines which server of a cluster holds it."""
    return b"%s:{%d}" % (KEY_PREFIX.encode(), tag)


def state_key(stream_name: str) -> bytes:
    """Returns the key of the stream's state."""
    return tag_key(tag_of(stream_name)) + b":" + stream_name.encode()


def channel(db: int) -> bytes:
    """Returns the channel on which changed states are published. It names the database, since all databases share channels."""
    return b"%s:%d" % (KEY_PREFIX.encode(), db)


def packed_constants(pacing: Pacing) -> bytes:
    """Returns the constants of the rule for the script, from the modules that define them."""
    return _CONSTANTS.pack(
        TOLERANCE_S,
        CREDIT_PERIODS,
        LATE_WINDOW_S,
        REORDER_WINDOW_S,
        SHORTEST_TTL_S,
        MOST_EARLIER,
        pacing is Pacing.MIN_GAP,
    )


def packed_claims(claims: Sequence[Claim]) -> tuple[list[bytes], bytes, bytes]:
    """Returns the keys, the known states and the frames of claims, in their order.

    If there are several claims for one stream, the newest state that any of them knows travels.
    """
    keys: list[bytes] = []
    states: list[bytes] = []
    versions: list[float] = []
    numbers: dict[str, int] = {}
    frames = bytearray()
    for stream_name, ts, fps, known in claims:
        number = numbers.get(stream_name)
        if number is None:
            keys.append(state_key(stream_name))
            states.append(_packed(known))
            number = numbers[stream_name] = len(keys)
            versions.append(known.version)
        elif known.version >= versions[number - 1]:
            states[number - 1], versions[number - 1] = _packed(known), known.version
        frames += _FRAME.pack(number, ts, fps)
    return keys, b"".join(states), bytes(frames)


def unpacked_answers(reply: bytes) -> list[Claimed]:
    """Returns the answers in the script's reply."""
    answers, at = [], 0
    while at < len(reply):
        state, end = _unpacked(reply, at + 1)
        answers.append(Claimed(_REASONS[reply[at]], state))
        at = end
    return answers


def unpacked_changes(message: bytes) -> Iterator[tuple[str, State]]:
    """Yields the streams in a published message, and their new states. Raises ValueError if it isn't valid."""
    at = 0
    try:
        while at < len(message):
            (length,) = _LENGTH.unpack_from(message, at)
            state, at = _unpacked(message, at + _LENGTH.size)
            key = message[at : at + length]
            at += length
            yield key.partition(b"}:")[2].decode(), state
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a message of a claim: {error}") from None


def _packed(state: State) -> bytes:
    slot, last_ts, age, version, base, earlier = state
    fixed = _STATE.pack(slot, last_ts, age, version, base, len(earlier))
    return fixed + _EARLIER[len(earlier)].pack(*earlier) if earlier else fixed


def _unpacked(text: bytes, at: int) -> tuple[State, int]:
    """Returns the state that starts there, and where it ends."""
    slot, last_ts, age, version, base, count = _STATE.unpack_from(text, at)
    at += _STATE.size
    earlier = _EARLIER[count]
    return State(slot, last_ts, age, version, base, earlier.unpack_from(text, at)), at + earlier.size


_REASONS = {int(reason): reason for reason in Reason}
