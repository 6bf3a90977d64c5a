"""What a change of limits would ask of the workers, and when that is to be warned of. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from console.control.changes import Change, Kind, Snapshot
from console.control.lint import demand

MUCH_MORE: Final = 2.0
"""While the workers have never been full, nobody knows how much more they can count: this many times as much is doubtful."""


@dataclass(frozen=True)
class Demands:
    """What is known now. All rates in frames per second."""

    sources: Mapping[str, float] = field(default_factory=dict)
    """The rates of the cameras that deliver frames."""
    peak: float = 0.0
    """The highest counted rate of the last hour."""
    most: float | None = None
    """The same while the workers were full; None: they weren't."""
    default: float | None = None
    """The sidecars' --fps; None if no sidecar answers."""
    now: float = 0.0
    """Unix seconds."""

    def asked(self, snapshot: Snapshot) -> float:
        """Returns the frames per second that limits would let through."""
        return demand(snapshot, self.now, list(self.sources), dict(self.sources), self.default)

    def warning(self, snapshot: Snapshot, changes: Sequence[Change]) -> str:
        """Returns what to say before changes are made; empty if they ask for no more than was counted before."""
        before, after = self.asked(snapshot), self.asked(changed(snapshot, changes))
        if after <= before + 1e-9:
            return ""
        if self.most is not None and after > self.most:
            return (
                f"The limits would ask for {after:.3g} fps, and the workers count {self.most:.3g} fps when they are full. "
                "Every stream would get a part of its limit, in proportion to it."
            )
        if self.most is None and self.peak and after > MUCH_MORE * self.peak:
            return (
                f"The limits would ask for {after:.3g} fps. The most that the workers were seen to count is "
                f"{self.peak:.3g} fps, so they may not keep up."
            )
        return ""


def changed(snapshot: Snapshot, changes: Sequence[Change]) -> Snapshot:
    """Returns the limits after changes."""
    hashes = {kind: dict(snapshot.of(kind)) for kind in Kind}
    for change in changes:
        if change.new:
            hashes[change.kind][change.name] = change.new
        else:
            hashes[change.kind].pop(change.name, None)
    return Snapshot(hashes[Kind.LIMIT], hashes[Kind.PATTERN], hashes[Kind.BOOST])


def default_of(sidecars: Sequence[Mapping[str, object]]) -> float | None:
    """Returns the --fps of the first sidecar that tells it."""
    for sidecar in sidecars:
        try:
            fps = float(str(sidecar.get("default_fps", "")))
        except ValueError:
            continue
        if not math.isnan(fps):
            return fps
    return None
