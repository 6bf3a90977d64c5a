"""Why frames of a stream aren't counted, and what to do about it. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from console.control.names import quoted, shown, word
from console.control.rule import format_fps
from console.control.states import State
from console.fpsctl.rows import Row

REASONS: Final[Mapping[str, str]] = {
    "too_soon": "the stream's next frame wasn't due: this is its limit at work",
    "paused": "the limit was 0; fpsctl resume ends a pause",
    "duplicate": "the frame had the capture time of the last admitted one: is the stream published twice?",
    "late": "the frame was older than the last admitted one: is the stream published twice, or are frames reordered?",
    "stale": "the frame was older than the worker's --max-age when it was read: the queue is behind, or workers were down",
    "superseded": "a newer frame of the stream came before its turn: more is admitted than the workers count",
    "payload_expired": "the picture was gone from Redis before its turn: raise the publisher's --payload-ttl",
    "limit_unknown": "the stream's limit was never read, so its frames wait: can the sidecar read Redis?",
    "limit_unread": "the stream's limit was never read, so its frames wait: can the sidecar read Redis?",
}
"""What the reasons mean for which frames are skipped or denied."""


def advice(
    row: Row,
    *,
    applied: Mapping[str, float] = MappingProxyType({}),
    stale: bool = False,
    unread: bool = False,
    similar: str = "",
) -> list[str]:
    """Returns sentences about what stands out in a row, each with what to do.

    Args:
        row: the stream.
        applied: the limit that each sidecar applies, frames per second, by its address.
        stale: whether a sidecar can't read the limits.
        unread: whether a sidecar never read the stream's limit.
        similar: a stream with a similar name, if this one was never seen.
    """
    found = []
    if row.invalid:
        found.append(f"its value in Redis, {quoted(row.invalid)}, isn't a valid fps: fpsctl set {word(row.name)} FPS")
    for address, fps in applied.items():
        if row.limit is not None and fps != row.limit and not stale and not unread:
            found.append(
                f"the sidecar {shown(address)} applies {format_fps(fps)} instead: ask again in a second; else it is of an "
                "older version, follows another Redis or --config-key, or can't read a part of the limits (fpsctl doctor)"
            )
    if stale:
        found.append("a sidecar can't read the limits, so the last known ones are in force: fpsctl doctor")
    if unread:
        found.append("a sidecar never read its limit, so its frames wait: fpsctl doctor")
    match row.state:
        case State.UNSEEN:
            meant = f"; is {quoted(similar)} meant?" if similar else ": is it published, and under this name?"
            found.append(f"no frame of it was ever seen{meant}")
        case State.SILENT if row.camera_state == "ended":
            found.append("its film is over")
        case State.SILENT if row.camera_state == "stopped":
            found.append("its publisher was stopped, or its entry was removed from the file of cameras")
        case State.SILENT:
            found.append(
                "its frames come no more: is its publisher running? hand-counter publish logs why a camera is lost"
            )
        case State.LOST:
            reason = f": {shown(row.camera)}" if row.camera else ""
            found.append(f"its publisher can't read the camera{reason}; fpsctl probe SOURCE tries it")
        case State.PAUSED:
            found.append(f"it is paused: fpsctl resume {word(row.name)}")
        case State.BEHIND:
            found.append("its frames come, but none is counted: is a worker running, and does it read this queue?")
        case _:
            found += _live(row)
    return found


def _live(row: Row) -> list[str]:
    found = []
    if row.last_skip == "superseded":
        found.append("frames are given up for newer ones: lower limits (fpsctl top, sorted by c), or add workers")
    if row.limit is not None and row.source_fps and row.limit > row.source_fps * 1.05:
        found.append(f"its limit, {format_fps(row.limit)}, is above what the camera delivers, {row.source_fps:.1f}")
    return found


def reason(name: str) -> str:
    """Returns what a reason means; the name itself if it isn't known."""
    return REASONS.get(name.lower(), shown(name.lower()))
