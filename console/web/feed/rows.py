"""What the page shows of one stream: a row of plain values. Pure."""

import math

from console.control.states import Signs, State, state_of
from console.web.feed.facts import CameraSaid, Counted, Paced

Row = dict[str, object]
"""JSON: text, numbers, booleans and None. An infinite fps is the text "inf"."""


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
    state = state_of(
        Signs(
            limit,
            now,
            heard_at=heard_at,
            counted_at=counted.counted_at if counted else 0.0,
            admitted=counted.admitted if counted else 0,
            counted=counted.counted if counted else 0,
            decided=bool(paced and (paced.admitted or paced.denied)),
            reported_fps=told,
            reported_since=camera.since if camera and camera.state == "working" else 0.0,
            lost=camera is not None and camera.state == "lost",
        )
    )
    if state is State.LOST:
        state = State.SILENT  # the page shows the reason with it
    # The rates of a hash that nobody writes any more are those of the past.
    counts = counted if state not in (State.SILENT, State.BEHIND) else None
    return {
        "name": name,
        "state": state,
        "hands": counted.hands if counted else None,
        "source_fps": _rounded(0.0 if state is State.SILENT else told or (counted.source_fps if counted else 0.0)),
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
