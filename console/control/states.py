"""What a stream does, in a word: the rule that all tools share. Pure."""

import enum
from dataclasses import dataclass

from console.control.silence import silent_after


class State(enum.StrEnum):
    """What a stream does."""

    LIVE = "live"
    PAUSED = "paused"
    """Its limit is 0. Whoever pauses a camera that is off needn't know that it is silent."""
    SILENT = "silent"
    """Frames came, and come no more."""
    LOST = "lost"
    """Its publisher can't read the camera."""
    BEHIND = "behind"
    """Its camera delivers, or frames are admitted, and none has been counted for a while."""
    UNSEEN = "unseen"
    """There is a limit, and no frame was ever seen."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a stream. All times in Unix seconds, by one clock."""

    limit: float | None
    """The fps in force; None: unknown."""
    now: float
    heard_at: float = 0.0
    """When its newest frame arrived; 0: none did."""
    counted_at: float = 0.0
    """When a frame of it was last counted; 0: never, or longer ago than anybody remembers."""
    admitted: int = 0
    """By the workers, likewise the next."""
    counted: int = 0
    decided: bool = False
    """Whether a sidecar has decided about a frame of it."""
    reported_fps: float = 0.0
    """What its publisher says that the camera delivers now; 0: nothing. A publisher that thins may send no frame for long."""
    reported_since: float = 0.0
    """Since when the publisher says that the camera works; 0: it doesn't say so."""
    lost: bool = False
    """Whether its publisher says that it can't read the camera."""


def state_of(signs: Signs) -> State:
    """Returns the state of a stream."""
    patience = silent_after(signs.limit)
    if signs.limit == 0.0:
        return State.PAUSED
    if signs.lost:
        return State.LOST
    if not signs.heard_at and not signs.reported_fps and not signs.decided:
        return State.UNSEEN
    if not signs.reported_fps and signs.now - signs.heard_at > patience:
        return State.SILENT
    if signs.limit is None:
        return State.LIVE  # nobody knows how long the next frame may take
    unread_since = max(signs.heard_at, signs.reported_since)
    if unread_since and signs.now - unread_since > patience:
        return State.BEHIND  # no worker reads what the camera delivers
    if signs.admitted > signs.counted and signs.now - signs.counted_at > patience:
        return State.BEHIND
    return State.LIVE
