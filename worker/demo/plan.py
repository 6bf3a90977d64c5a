"""The demo's cameras, and its phases with their changes of limits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DEFAULT_FPS = 2.0
"""--fps of the demo's sidecar."""

WILDCARD = "*"


CLOSE_UP = (232, 174)
"""Size of a view of hands alone: so small that the detector searches it in one piece, in a third of the time."""


@dataclass(frozen=True)
class DemoCamera:
    """A simulated camera."""

    stream_name: str
    fps: float
    people: tuple[int, int] | None = None
    """The lowest and highest number of people in a whole-body view; None: hands alone."""
    size: tuple[int, int] = CLOSE_UP
    """Width and height, pixels."""


@dataclass(frozen=True)
class Phase:
    """A time during which the limits don't change."""

    title: str
    changes: Mapping[str, str | None] = field(default_factory=dict)
    """Changes of the hash at its start: value by field; None deletes the field."""

    def commands(self, config_key: str) -> list[str]:
        """Returns the changes as redis-cli's commands."""
        return [
            f"HDEL {config_key} '{name}'" if value is None else f"HSET {config_key} '{name}' {value}"
            for name, value in self.changes.items()
        ]


@dataclass(frozen=True)
class Limit:
    """A stream's limit."""

    fps: float
    set_by: str
    """The field of the hash that has it, or --fps."""


CAMERAS = (DemoCamera("cam1", 15.0, people=(0, 2), size=(640, 480)), DemoCamera("cam2", 25.0), DemoCamera("cam3", 30.0))

# At most 11 frames per second are counted, which takes less than half a core with the embedded detector.
PHASES = (
    Phase("two limits, the default for the third", {"cam2": "4", "cam3": "1"}),
    Phase("a cut and a raise", {"cam2": "1", "cam3": "5"}),
    Phase("a pause, and a return to the default", {"cam1": "0", "cam2": None}),
    Phase("a new default for all streams without a limit of their own", {"cam1": None, WILDCARD: "3"}),
    Phase("no limits in the hash", {WILDCARD: None, "cam3": None}),
)


def after(phases: Sequence[Phase]) -> dict[str, str]:
    """Returns the hash after the changes of these phases."""
    fields: dict[str, str] = {}
    for phase in phases:
        for name, value in phase.changes.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = value
    return fields


def limit_of(stream_name: str, fields: Mapping[str, str], default_fps: float = DEFAULT_FPS) -> Limit:
    """Returns a stream's limit by the service's rule: its own field, else the wildcard, else the default."""
    for name in (stream_name, WILDCARD):
        if name in fields:
            return Limit(float(fields[name]), name)
    return Limit(default_fps, "--fps")
