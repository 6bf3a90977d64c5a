"""A table of limits with simulated clocks, which notes what it reports."""

from dataclasses import dataclass, field

from sidecar.limits.table import FpsTable

NOW = 1000.0


def encoded(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


@dataclass
class World:
    """A table at the default of 1, what it reported, and the clocks."""

    now: float = NOW
    real: float = 0.0
    changes: list[tuple[str, float, float]] = field(default_factory=list)
    """What a watcher of leases was told."""
    logged: list[tuple[str, object]] = field(default_factory=list)
    patterns: list[tuple[str, float | None, float | None]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    boosts: int = 0

    def __post_init__(self) -> None:
        self.table = FpsTable(
            1.0,
            lambda _field, _value: None,
            self,
            lambda name, _old, limit: self.logged.append((name, limit)),
            self.differences.append,
            lambda *change: self.patterns.append(change),
            clock=lambda: self.real,
            wall_clock=lambda: self.now,
        )
        self.table.store_wildcard(None)

    def limit_changed(self, stream_name: str, old_fps: float, new_fps: float) -> None:
        self.changes.append((stream_name, old_fps, new_fps))

    def fallback_changed(self, old_fps: float, new_fps: float) -> None:
        self.changes.append(("*", old_fps, new_fps))

    def set_patterns(self, **patterns: str) -> None:
        """Has the effect of a reading of the patterns; an underscore stands for a star."""
        if self.table.store_patterns(encoded({name.replace("_", "*"): value for name, value in patterns.items()})):
            self.table.refresh(list(self.table.watched))

    def set_boosts(self, **boosts: str) -> None:
        """Has the effect of a reading of the boosts; each is an fps and how long it lasts."""
        fields = {}
        for name, value in boosts.items():
            fps, _, seconds = value.partition(" ")
            fields[name] = f"{fps} {NOW + float(seconds)}" if seconds else fps
        self.table.store_boosts(encoded(fields))

    def forget_reports(self) -> None:
        for reports in (self.changes, self.logged, self.patterns, self.differences):
            reports.clear()  # type: ignore[attr-defined]
