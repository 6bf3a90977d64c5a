"""What users of ``hand-counter demo`` choose, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.hands.effort import Effort


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """A demo; the fields are those of DemoSettings."""

    redis_url: str | None
    """None starts the embedded Valkey."""
    phase_seconds: float
    """Length of each phase."""
    effort: Effort
    """The worker's --effort."""
    seed: int
    """Of the simulated cameras."""
    models_dir: Path | None
    """Folder of the hand models; None means the one in the user's cache."""
    annotate: Path | None
    """Where an annotated frame is written, if anywhere."""
    keep: bool = False
    """Whether all goes on after the last phase, until a signal."""
