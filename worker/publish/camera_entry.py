"""An entry of cameras.yaml: its keys are the flags of ``hand-counter publish`` without their dashes at the front."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from handcounter.pacing.schedule import stream_name_error
from process.fields import FiniteSeconds, Number
from worker.publish.options import CameraOptions, Reception, SourceOptions
from worker.publish.source_name import PASSWORD, Kind, parse_source, read_secret

_SOURCES = ("source", "source-file", "source-variable")
_PASSWORDS = ("source-password-file", "source-password-variable")


def _stream_name(value: str) -> str:
    if error := stream_name_error(value):
        raise ValueError(error)
    return value


class CameraDefaults(BaseModel):
    """What may stand for all cameras, and for each."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))

    transport: Literal["tcp", "udp"] = "tcp"
    source_timeout: Annotated[FiniteSeconds, Field(ge=0.1, le=3600)] = 5.0
    source_fps: Annotated[Number, Field(gt=0, le=1000)] = 10.0
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 85
    loop: bool = False
    watch: bool = False
    source_password_file: str = ""
    source_password_variable: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class CameraEntry(CameraDefaults):
    """A camera."""

    name: Annotated[str, AfterValidator(_stream_name)]
    source: str = Field("", repr=False)
    source_file: str = ""
    source_variable: str = ""

    def secret_files(self, folder: Path) -> list[Path]:
        """Returns the files whose content is part of the options."""
        return [folder / self.source_file] if self.source_file else []

    def options(self, folder: Path, environ: Mapping[str, str]) -> CameraOptions:
        """Returns the camera.

        Args:
            folder: where relative paths begin.
            environ: the environment.

        Raises:
            ValueError: it can't be any camera; the text repeats nothing secret.
        """
        source = self._source(folder, environ)
        if sum(map(bool, (self.source_password_file, self.source_password_variable))) > 1:
            raise ValueError(f"give one of {' and '.join(_PASSWORDS)}")
        password = None
        if self.source_password_variable:
            password = _variable(self.source_password_variable, environ)
        file = folder / self.source_password_file if self.source_password_file else None
        if file and os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113 (these never raise OSError)
            raise ValueError(
                f"source-password-file {file} is a pipe, a folder or a device; it is read for each connection"
            )
        if PASSWORD in source and password is None and file is None:
            raise ValueError(f"{PASSWORD} needs {' or '.join(_PASSWORDS)}")
        kind = parse_source(source, "").kind
        if kind in (Kind.FILM, Kind.FOLDER):
            source = str(folder / source)
            kind = parse_source(source).kind
        if self.watch and kind is not Kind.FOLDER:
            raise ValueError("watch needs a folder that exists")
        return CameraOptions(
            stream_name=self.name,
            source=SourceOptions(
                source=source,
                password_file=file,
                password=password,
                loop=self.loop,
                folder_fps=self.source_fps,
                watch=self.watch,
                reception=Reception(self.transport, self.source_timeout),
                jpeg_quality=self.jpeg_quality,
            ),
            labels=dict(self.labels),
        )

    def _source(self, folder: Path, environ: Mapping[str, str]) -> str:
        if sum(map(bool, (self.source, self.source_file, self.source_variable))) != 1:
            raise ValueError(f"give one of {', '.join(_SOURCES)}")
        if self.source_variable:
            return _variable(self.source_variable, environ)
        if not self.source_file:
            return self.source
        path = folder / self.source_file
        try:
            source = read_secret(path, again=True)
        except OSError as error:
            raise ValueError(f"source-file {path}: {error.strerror or error}") from None
        except ValueError:
            raise ValueError(f"source-file {path} isn't text") from None
        if not source:
            raise ValueError(f"source-file {path} is empty")
        return source


def _variable(name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise ValueError(f"the environment has no variable {name}")
    return value
