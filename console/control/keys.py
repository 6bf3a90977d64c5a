"""The keys of the limits in Redis, which all begin with --config-key. Pure.

    stream_fps_configs           a hash: stream_name -> fps; the field * applies to all other streams
    stream_fps_configs:patterns  a hash: pattern -> fps
    stream_fps_configs:boosts    a hash: stream_name -> "FPS UNTIL", UNTIL in Unix seconds
    stream_fps_configs:audit     a capped Redis stream: one entry for each change
    stream_fps_configs:seen      a hash: the value of each field of the other hashes when a tool last looked, by which
                                 changes that no tool has made are noticed

docs/reference/redis-keys.md has this list.
"""

from dataclasses import dataclass
from typing import Final

from console.control.changes import Kind
from handcounter.pacing.limits import boosts_key, patterns_key

DEFAULT_CONFIG_KEY: Final = "stream_fps_configs"

AUDIT_LENGTH: Final = 10_000
"""About how many changes the audit keeps."""


@dataclass(frozen=True)
class ControlKeys:
    """The keys of the limits."""

    config_key: str = DEFAULT_CONFIG_KEY

    @property
    def patterns(self) -> str:
        """Limits by pattern."""
        return patterns_key(self.config_key)

    @property
    def boosts(self) -> str:
        """Limits for a time."""
        return boosts_key(self.config_key)

    @property
    def audit(self) -> str:
        """Who changed which limit, and when."""
        return f"{self.config_key}:audit"

    @property
    def seen(self) -> str:
        """What the tools last saw."""
        return f"{self.config_key}:seen"

    def hash_of(self, kind: Kind) -> str:
        """Returns the hash that holds the limits of a kind."""
        return {Kind.LIMIT: self.config_key, Kind.PATTERN: self.patterns, Kind.BOOST: self.boosts}[kind]
