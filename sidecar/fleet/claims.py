"""The claim: a frame's admission decided in Redis, where all replicas meet (``claim.lua``).

This module is the format of claims: their keys, and how they travel to the script and back. It does no I/O; doubles
travel as their 8 bytes, so both sides compute with the very same numbers. ``fleet`` decides what to claim, and
``claim_queue`` sends it.
"""

import enum
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import NamedTuple

from handcounter.pacing.schedule import CREDIT_PERIODS, LATE_WINDOW_S, TOLERANCE_S, Pacing, Reason
from sidecar.fleet.reorder import MOST_EARLIER, REORDER_WINDOW_S

KEY_PREFIX = "stream_fps_slot"
"""State keys are ``stream_fps_slot:{TAG}:NAME``."""

TAG_COUNT = 64
"""Hash tags of the state keys. On a cluster the claims of a batch travel in at most so many calls."""

REPLICAS_KEY = "stream_fps_replicas"
"""The sorted set of the replicas' heartbeats."""

SHORTEST_TTL_S = 3600.0
"""A state key lives for this or two periods, whichever is longer."""

REPLICA_GONE_S = 5.0
"""A replica without a heartbeat for this long is no longer counted."""

MOST_CLAIMS_PER_CALL = 256
"""Bounds how long one call of the script keeps Redis from others (about 2 ms)."""

UNMERGED = math.inf
"""The version of a state with admissions that Redis hasn't heard of."""

CLAIM_SCRIPT = resources.files("sidecar.fleet").joinpath("claim.lua").read_text()
HEARTBEAT_SCRIPT = resources.files("sidecar.fleet").joinpath("heartbeat.lua").read_text()

_CONSTANTS = struct.Struct("<dddddBB")
_STATE = struct.Struct("<dddddB")
_EARLIER = [struct.Struct(f"<{count}d") for count in range(MOST_EARLIER + 1)]
_FRAME = struct.Struct("<Idd")
_LENGTH = struct.Struct("<H")


class State(NamedTuple):
    """A stream's timing state as it travels; see :class:`sidecar.fleet.reorder.Trail` and its schedule."""

    slot: float
    last_ts: float
    age: float
    """Seconds since the last admission: spans travel between clocks, times don't."""
    version: float
    """Grows with each change of the stream's state; 0 where there is none."""
    base: float = 0.0
    earlier: tuple[float, ...] = ()


NO_STATE = State(0.0, 0.0, 0.0, 0.0)


class Claim(NamedTuple):
    """One frame to be decided in Redis."""

    stream_name: str
    ts: float
    fps: float
    known: State
    """What this replica knows of the stream, so that Redis may learn it again."""
    gap: int = 0
    """The number of the replica's last gap in hearing others, when it claimed; for itself."""


class Claimed(NamedTuple):
    """The answer: the reason, and the stream's state after it."""

    reason: Reason
    state: State


class Missing(enum.Enum):
    """Why Redis gave no answer to a claim."""

    LATE = enum.auto()
    """It didn't come in time; Redis may have decided the frame all the same."""
    AWAY = enum.auto()
    """Redis is known to be out of reach or too slow, or refused."""


def tag_of(stream_name: str) -> int:
    """The number of the stream's hash tag, below TAG_COUNT."""
    return zlib.crc32(stream_name.encode()) % TAG_COUNT


def tag_key(tag: int) -> bytes:
    """The part of a state key that decides which server of a cluster holds it."""
    return b"%s:{%d}" % (KEY_PREFIX.encode(), tag)


def state_key(stream_name: str) -> bytes:
    """The key of the stream's state."""
    return tag_key(tag_of(stream_name)) + b":" + stream_name.encode()


def channel(db: int) -> bytes:
    """The channel on which changed states are published: channels, unlike keys, are shared by all databases."""
    return b"%s:%d" % (KEY_PREFIX.encode(), db)


def packed_constants(pacing: Pacing) -> bytes:
    """The constants of the rule, from the one place that has them."""
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
    """Gives the keys, the known states and the frames of these claims, in their order.

    Where several claims know of one stream, the newest knowledge travels.
    """
    keys: list[bytes] = []
    states: list[bytes] = []
    versions: list[float] = []
    numbers: dict[str, int] = {}
    frames = bytearray()
    for stream_name, ts, fps, known, _ in claims:
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
    """Reads the script's reply."""
    answers, at = [], 0
    while at < len(reply):
        state, end = _unpacked(reply, at + 1)
        answers.append(Claimed(_REASONS[reply[at]], state))
        at = end
    return answers


def unpacked_changes(message: bytes) -> Iterator[tuple[str, State]]:
    """Reads a published message: streams and their new states. Raises ValueError if it is none."""
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
    """The state that starts there, and where it ends."""
    slot, last_ts, age, version, base, count = _STATE.unpack_from(text, at)
    at += _STATE.size
    earlier = _EARLIER[count]
    return State(slot, last_ts, age, version, base, earlier.unpack_from(text, at)), at + earlier.size


_REASONS = {int(reason): reason for reason in Reason}
