"""What the demo shows: its cameras, and the changes of limits one after the other. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DEFAULT_FPS = 2.0
"""What the demo's sidecar is started with as --fps."""

WILDCARD = "*"


@dataclass(frozen=True)
class DemoCamera:
    """A drawn camera."""

    stream_name: str
    fps: float


@dataclass(frozen=True)
class Phase:
    """A while in which the limits stay as they are."""

    title: str
    changes: Mapping[str, str | None] = field(default_factory=dict)
    """What happens to the hash at its beginning: field to value, None to delete it."""

    def commands(self, config_key: str) -> list[str]:
        """The changes as one would type them."""
        return [
            f"HDEL {config_key} '{name}'" if value is None else f"HSET {config_key} '{name}' {value}"
            for name, value in self.changes.items()
        ]


@dataclass(frozen=True)
class Limit:
    """What is in force for a stream."""

    fps: float
    set_by: str
    """The field of the hash, or --fps."""


CAMERAS = (DemoCamera("cam1", 15.0), DemoCamera("cam2", 25.0), DemoCamera("cam3", 30.0))

# At most 11 frames are counted per second: that is under half of one core with the embedded detector.
PHASES = (
    Phase("two limits, the default for the third", {"cam2": "4", "cam3": "1"}),
    Phase("a cut and a raise", {"cam2": "1", "cam3": "5"}),
    Phase("a pause, and one back to the default", {"cam1": "0", "cam2": None}),
    Phase("a new default for all without a limit of their own", {"cam1": None, WILDCARD: "3"}),
    Phase("no limits in the hash any more", {WILDCARD: None, "cam3": None}),
)


def after(phases: Sequence[Phase]) -> dict[str, str]:
    """The hash after these phases' changes, one after the other."""
    fields: dict[str, str] = {}
    for phase in phases:
        for name, value in phase.changes.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = value
    return fields


def limit_of(stream_name: str, fields: Mapping[str, str], default_fps: float = DEFAULT_FPS) -> Limit:
    """The limit of a stream by the rule of the service: its own field, then the wildcard, then the default."""
    for name in (stream_name, WILDCARD):
        if name in fields:
            return Limit(float(fields[name]), name)
    return Limit(default_fps, "--fps")
