"""What the page shows of one stream: a row of plain values, and the state of its camera. Pure."""

import math

from console.control.silence import silent_after
from console.web.feed.facts import CameraSaid, Counted, Paced

Row = dict[str, object]
"""JSON: text, numbers, booleans and None. An infinite fps is the text "inf"."""

LIVE, SILENT, PAUSED, BEHIND, UNSEEN = "live", "silent", "paused", "behind", "unseen"
"""Frames come and are counted; no frames come; the limit is 0; admitted frames aren't counted; no frame was ever seen."""


def state_of(counted: Counted | None, heard_at: float, limit: float | None, source_fps: float, now: float) -> str:
    """Returns the state of a camera.

    Args:
        counted: What the workers say; None once the hash has expired.
        heard_at: When its newest frame arrived, Unix seconds; 0: never seen.
        limit: The fps in force; None: unknown.
        source_fps: What the publisher tells about the camera now; 0: nothing.
        now: Unix seconds, by the same clock as heard_at.
    """
    patience = silent_after(limit)
    alive = source_fps > 0.0 or now - heard_at <= patience
    if limit == 0.0 and (alive or not heard_at):
        return PAUSED  # a paused camera may be silent because its publisher thins, so silence says nothing
    if not heard_at and not source_fps:
        return UNSEEN
    if not alive:
        return SILENT
    counted_at = counted.counted_at if counted else 0.0
    if counted and limit and counted.admitted > counted.counted and now - max(counted_at, 1.0) > patience:
        return BEHIND if counted.received else LIVE
    return LIVE


def row_of(
    name: str, counted: Counted | None, paced: Paced | None, camera: CameraSaid | None, heard_at: float, now: float
) -> Row:
    """Returns the row of a stream. Numbers are rounded to what is shown, so that only visible changes are sent.

    Args:
        name: The stream.
        counted: What the workers say.
        paced: What the sidecars say, or what Redis alone tells about the limit.
        camera: What its publisher says.
        heard_at: When the newest frame came, Unix seconds; 0: never.
        now: Unix seconds.
    """
    limit = paced.fps if paced else None
    told = (camera.source_fps if camera else 0.0) or (paced.source_fps if paced else 0.0)
    state = state_of(counted, heard_at, limit, told, now)
    if camera and camera.state == "lost" and state != PAUSED:
        state = SILENT  # at once: its publisher knows it before frames are missed
    # The rates of a hash that nobody writes any more are those of the past.
    counts = counted if state != SILENT else None
    return {
        "name": name,
        "state": state,
        "hands": counted.hands if counted else None,
        "source_fps": _rounded(0.0 if state == SILENT else told or (counted.source_fps if counted else 0.0)),
        "limit": _limit(limit),
        "limit_source": paced.source if paced else "",
        "admitted_fps": _rounded(paced.admitted_fps if paced else 0.0),
        "counted_fps": _rounded(counts.counted_fps if counts else 0.0),
        "heard_at": round(heard_at, 1),
        "counted_at": round(counted.counted_at, 1) if counted else 0.0,
        "age": _rounded(counted.age if counted else 0.0),
        "last_skip": counted.last_skip if counted else "",
        "received": counted.received if counted else 0,
        "counted": counted.counted if counted else 0,
        "skipped": counted.skipped if counted else 0,
        "invalid": paced.invalid if paced else "",
        "camera": camera.state if camera else "",
        "camera_error": camera.error if camera and camera.state in ("lost", "starting") else "",
        "stale": bool(paced and (paced.stale or paced.unread)),
    }


def _rounded(number: float) -> float:
    """Returns a number with three significant digits."""
    return float(f"{number:.3g}") if math.isfinite(number) else 0.0


def _limit(fps: float | None) -> object:
    if fps is None:
        return None
    return "inf" if math.isinf(fps) else float(f"{fps:.6g}")
