"""The flags of ``hand-counter probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from process.fields import FiniteSeconds
from process.settings import Positional
from worker.publish.options import Reception, SourceOptions
from worker.publish.source_name import PASSWORD, parse_source, read_secret
from worker.settings import WorkerSettings


def _source(value: str) -> str:
    """Checks a source; whether {PASSWORD} can be filled in is checked later."""
    if value:
        parse_source(value, password="")
    return value


class ProbeSettings(WorkerSettings):
    """Tries a source of frames for a moment: its codec, size and rate, or the reason why it can't be read."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter probe rtsp://user:{PASSWORD}@camera.local/stream --source-password-file door.password
  hand-counter probe video.mp4 --snapshot first.jpg
  hand-counter probe 0 --json                          the first webcam
"""

    source: Annotated[str, Positional(), AfterValidator(_source)] = Field(
        "",
        description="as of hand-counter publish; a URL with a password belongs in WORKER_SOURCE or a file",
        json_schema_extra={"secret": True},
    )
    source_file: Path | None = Field(None, description="file whose text is SOURCE")
    source_password_file: Path | None = Field(
        None, description=f"file with the password that replaces {PASSWORD} in a URL"
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how an RTSP camera sends: udp may lose frames")
    source_timeout: FiniteSeconds = Field(
        5.0, ge=0.1, le=3600, description="seconds of silence after which a network source counts as lost"
    )
    seconds: FiniteSeconds = Field(2.0, ge=0.1, le=60, description="how long a camera's frames are counted")
    snapshot: Path | None = Field(None, description="file for the first picture")
    as_json: bool = Field(False, description="print one JSON object", json_schema_extra={"flag": "--json"})

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.publish.trial.run_probe`."""
        options = SourceOptions(
            source=self.source,
            password_file=self.source_password_file,
            reception=Reception(self.transport, self.source_timeout),
        )
        return {"options": options, "seconds": self.seconds, "snapshot": self.snapshot, "as_json": self.as_json}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.source and self.source_file:
            raise ValueError("the source is given twice: as text and in --source-file")
        if self.source_file:
            try:
                self.source = read_secret(self.source_file)
            except OSError as error:
                raise ValueError(f"--source-file {self.source_file}: {error.strerror or error}") from None
            except ValueError:
                raise ValueError(f"--source-file {self.source_file} isn't text") from None
        if not self.source:
            raise ValueError("give SOURCE as an argument, in WORKER_SOURCE or in --source-file")
        parse_source(self.source, "" if self.source_password_file else None)
        return self
