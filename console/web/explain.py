"""Why the frames of a stream are counted or not, in sentences. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_SKIPS: Final = {
    "too_soon": "The last skipped frame came before the next one was due, as the limit says.",
    "paused": "The last skipped frame came while the stream was paused.",
    "duplicate": "The last skipped frame had the timestamp of the one before: the camera repeats timestamps.",
    "late": "The last skipped frame was older than an admitted one: frames come out of order.",
    "stale": "Frames became too old in the queue before a worker took them: the workers are full or were down.",
    "payload_expired": "The picture of the last skipped frame had expired in Redis: the workers are far behind.",
    "superseded": "A newer frame of the stream came before the admitted one's turn: the workers are full.",
    "limit_unknown": "The sidecar couldn't be asked, and the stream's limit is unknown.",
}
_OVER: Final = {
    "ended": "Its film is over.",
    "stopped": "Its publisher was stopped, or its entry was removed from the file of cameras.",
}
"""What a publisher says last."""
_SOURCES: Final = {
    "override": "from its own field",
    "pattern": "from a pattern",
    "boost": "from a boost",
    "wildcard": "from the field *, which is for all streams without one of their own",
    "default": "the sidecar's default (--fps)",
}


def explain(row: Mapping[str, Any], decision: Mapping[str, Any] | None, field: str | None, now: float) -> list[str]:
    """Returns sentences, the most important first.

    Args:
        row: What the page shows of the stream.
        decision: What a sidecar would decide about a frame now; None if none answers.
        field: The text of the stream's own field; None if there is none.
        now: Unix seconds, by the clock of the row's times.
    """
    sentences = [_limit(row)]
    if row["invalid"]:
        sentences.append(
            f"The value {row['invalid']!r} in Redis isn't a valid fps, so the last valid one stays in force."
        )
    if row["stale"]:
        sentences.append("The limits can't be read from Redis at present; the last known ones stay in force.")
    sentences += _state(row, now)
    if decision is None:
        sentences.append("No sidecar answers, so nobody knows what would be decided.")
    elif decision["reason"] == "admitted":
        sentences.append("A frame captured now would be admitted.")
    elif decision["next_ts"] is not None and decision["reason"] == "too_soon" and decision["next_ts"] > now - 1:
        sentences.append(f"The next frame is due in {max(0.0, decision['next_ts'] - now):.1f} s.")
    if row["skipped"] and (reason := _SKIPS.get(str(row["last_skip"]))):
        sentences.append(reason)
    if field is not None and row["limit_source"] not in ("override", "boost", "") and not row["invalid"]:
        sentences.append("The stream has a field of its own that isn't in force yet.")
    return sentences


def _limit(row: Mapping[str, Any]) -> str:
    source = _SOURCES.get(str(row["limit_source"]), "")
    if row["limit"] is None:
        return "No sidecar knows the stream: it had no frame since the sidecar started."
    if row["limit"] == "inf":
        return f"The stream has no limit ({source})."
    if row["limit"] == 0:
        return f"The stream is paused ({source})."
    return f"The limit is {row['limit']:g} fps, {source}."


def _state(row: Mapping[str, Any], now: float) -> list[str]:
    if row["camera_error"]:
        return [f"The publisher can't read the camera: {row['camera_error']}"]
    if row["state"] == "silent" and row["camera"] in _OVER:
        return [_OVER[row["camera"]]]
    if row["state"] == "silent":
        since = f"has come for {now - row['heard_at']:.0f} s" if row["heard_at"] else "comes any more"
        return [f"No frame {since}: look at the camera and its publisher."]
    if row["state"] == "unseen":
        return ["No frame of this name was ever seen: is the name right, and does a publisher run?"]
    if row["state"] == "behind":
        return ["Its frames come, but none was counted for a while: look at the workers."]
    source, limit = row["source_fps"], row["limit"]
    if isinstance(limit, int | float) and 0 < source < limit:
        return [f"The camera itself delivers {source:g} fps, less than its limit."]
    return []
