"""The flags of ``hand-counter ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from process.fields import HttpAddress, Seconds
from process.settings import Positional
from worker.publish.options import IngestOptions
from worker.publish.sending_settings import SendingSettings


class IngestSettings(SendingSettings):
    """Publishes many cameras in one process, as a file lists them."""

    EXAMPLES: ClassVar[str] = """\
CAMERAS is a YAML file:

  defaults:                                        what the cameras share; optional
    transport: tcp
  cameras:
    - name: door                                   the stream
      source: rtsp://user:{PASSWORD}@door.local/stream
      source-password-file: door.password          or source-password-variable: NAME
    - name: yard
      source-file: yard.url                        or source-variable: NAME
      transport: udp
      source-timeout: 10
      labels: {floor: "1"}

The keys are the flags of `hand-counter publish`. Relative paths begin in the file's folder. The file is watched: cameras are
added, changed and removed while the others go on. A camera that fails is retried alone. Ctrl-C ends the command within a
second. docs/cameras.md has more.

examples:
  hand-counter ingest cameras.yaml --check                         is the file valid?
  hand-counter ingest cameras.yaml
  hand-counter ingest cameras.yaml --sidecar 127.0.0.1:50051       only frames that will be admitted
  redis-cli HGETALL '{hand_counter}:camera:door'                   how a camera is
"""

    cameras: Annotated[Path, Positional()] = Field(description="YAML file with the cameras")
    check: bool = Field(False, description="only check the file: exit code 0 if it is valid, else 2")
    http: HttpAddress = "127.0.0.1:9466"
    metrics_cameras: int = Field(1000, ge=0, le=100_000, description="cameras with metrics of their own")
    progress: Seconds = Field(60.0, description="seconds between progress lines; inf: none")

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.publish.ingest_command.run_ingest`."""
        return {
            "options": IngestOptions(
                cameras=self.cameras,
                destination=self.destination,
                limits=self.limits,
                check=self.check,
                http=self.http,
                metrics_cameras=self.metrics_cameras,
                progress=self.progress,
            )
        }
