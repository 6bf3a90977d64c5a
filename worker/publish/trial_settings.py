"""The flags of ``hand-counter probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from process.fields import FiniteSeconds
from worker.publish.options import SourceOptions
from worker.publish.source_settings import SourceSettings


class ProbeSettings(SourceSettings):
    """Tries a source of frames for a moment: its codec, size and rate, or the reason why it can't be read."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter probe rtsp://user:{PASSWORD}@camera.local/stream --source-password-file door.password
  hand-counter probe video.mp4 --snapshot first.jpg
  hand-counter probe 0 --json                          the first webcam
"""

    seconds: FiniteSeconds = Field(2.0, ge=0.1, le=60, description="how long a camera's frames are counted")
    snapshot: Path | None = Field(None, description="file for the first picture")
    as_json: bool = Field(False, description="print one JSON object", json_schema_extra={"flag": "--json"})

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.publish.trial.run_probe`."""
        options = SourceOptions(
            source=self.source,
            password_file=self.source_password_file,
            reception=self.reception,
        )
        return {"options": options, "seconds": self.seconds, "snapshot": self.snapshot, "as_json": self.as_json}
