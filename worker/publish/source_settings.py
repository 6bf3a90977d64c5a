"""The flags of one source, as `publish` and `probe` have them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from process.fields import FiniteSeconds
from process.settings import Positional
from worker.publish.options import Reception
from worker.publish.source_name import PASSWORD, parse_source, read_secret
from worker.settings import WorkerSettings


def _source(value: str) -> str:
    """Checks a source; whether {PASSWORD} can be filled in is checked later."""
    if value:
        parse_source(value, password="")
    return value


class SourceSettings(WorkerSettings):
    """Which source, and how it is received."""

    COMES_FIRST: ClassVar[bool] = True

    source: Annotated[str, Positional(), AfterValidator(_source)] = Field(
        "",
        description="file, folder, webcam number, URL, or synthetic:fps=,hands=,seed=,size=,jitter=,people=; "
        "other users can see flags, so a URL with a password belongs in WORKER_SOURCE or a file",
        json_schema_extra={"secret": True},
    )
    source_file: Path | None = Field(None, description="file whose text is SOURCE")
    source_password_file: Path | None = Field(
        None, description=f"file with the password that replaces {PASSWORD} in a URL; read for each connection"
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how an RTSP camera sends: udp may lose frames")
    source_timeout: FiniteSeconds = Field(
        5.0, ge=0.1, le=3600, description="seconds of silence after which a network source counts as lost"
    )

    @property
    def reception(self) -> Reception:
        """How the source is received."""
        return Reception(self.transport, self.source_timeout)

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
