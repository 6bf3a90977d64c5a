"""What a publisher says about its camera in Redis, for operators' tools: the hash {hand_counter}:camera:<name>. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

TTL_S = 60
"""Seconds that the hash stays after it was last written, so a camera whose publisher is gone disappears."""

EVERY_S = 10.0
"""Seconds after which the hash is written anew although nothing but counters has changed. Well below the TTL."""


class CameraState(enum.StrEnum):
    """What a camera does."""

    STARTING = "starting"
    """No frame has arrived yet, and nothing has failed."""
    WORKING = "working"
    """Frames arrive, whether or not they are published."""
    LOST = "lost"
    """It can't be opened, or sends nothing; it is retried."""
    ENDED = "ended"
    """A film is over."""
    STOPPED = "stopped"
    """It isn't read any more, because its publisher has ended or its entry was removed."""


@dataclass(frozen=True, kw_only=True)
class CameraStatus:
    """The state of one camera."""

    state: CameraState
    since: float
    """When this state began, Unix seconds by the publisher's clock, as all times here but `ts`."""
    source: str
    """What it is, without secrets."""
    error: str = ""
    """The last error, without secrets; it stays when the camera works again."""
    error_at: float = 0.0
    codec: str = ""
    """FFmpeg's name of it; empty of pictures and while it isn't known."""
    size: str = ""
    """WIDTHxHEIGHT of the last published picture, pixels."""
    source_fps: float = 0.0
    """Frames per second that arrive; 0 while that isn't known, and while nothing comes."""
    ts: float | None = None
    """Capture time of the last frame that arrived."""
    arrived: int = 0
    """Frames since the publisher of this camera started; likewise the following."""
    published: int = 0
    thinned: int = 0
    """Left out, because they would have been denied."""
    dropped: int = 0
    """Too late, or not to be encoded."""
    bytes: int = 0
    """Of the published pictures."""
    labels: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    """The machine, or pod, on which the publisher runs."""
    max_queue: int = 0
    """About how many entries the publisher lets the queue keep, in all partitions together; 0 if it isn't told."""

    def fields(self, now: float) -> dict[str, str]:
        """Returns the fields of the hash; `now` in Unix seconds."""
        return {
            "state": self.state.value,
            "since": f"{self.since:.3f}",
            "source": self.source,
            "error": self.error,
            "error_at": f"{self.error_at:.3f}" if self.error else "",
            "codec": self.codec,
            "size": self.size,
            "source_fps": f"{self.source_fps:g}",
            "ts": "" if self.ts is None else repr(self.ts),
            "arrived": str(self.arrived),
            "published": str(self.published),
            "thinned": str(self.thinned),
            "dropped": str(self.dropped),
            "bytes": str(self.bytes),
            "labels": json.dumps(dict(self.labels), ensure_ascii=False, sort_keys=True),
            "host": self.host,
            "max_queue": str(self.max_queue),
            "updated_at": f"{now:.3f}",
        }

    @property
    def news(self) -> tuple[object, ...]:
        """What is written at once when it changes; the rest is written with it or after EVERY_S."""
        return (self.state, self.since, self.source, self.error, self.error_at, self.codec, self.size, self.labels)
