"""Reads cameras.yaml: which cameras a process publishes. Errors name the line and the camera, and never show a value.

Values are taken as they are written: a camera called 007 or no stays that, which YAML's own rules would make a number and
false.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from handcounter.pacing.schedule import stream_name_error
from worker.publish.camera_entry import CameraDefaults, CameraEntry
from worker.publish.options import CameraOptions
from worker.publish.plain_file import read_plain_file

MOST_BYTES = 16 * 1024 * 1024
"""Of a file: enough for a hundred thousand cameras."""

MOST_LEVELS = 20
"""Of lists and mappings in each other: more than any valid file has. What PyYAML makes of them it makes recursively."""

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""All values are texts; libyaml, where it is installed, is ten times as fast."""

_KEY = re.compile(r"[\w.-]{1,40}")

Place = tuple[str | int, ...]
"""A way into the file: keys, and positions in lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong in the file."""

    line: int
    """From 1; 0: the file as a whole."""
    text: str
    camera: str = ""

    def __str__(self) -> str:
        """Returns a sentence."""
        return f"{f'camera {self.camera}: ' if self.camera else ''}{self.text}"


class CamerasFileError(Exception):
    """The file can't be used."""

    def __init__(self, path: Path, problems: Sequence[Problem], depends_on: Sequence[Path] = ()) -> None:
        self.path = path
        self.problems = problems
        self.depends_on = tuple(depends_on)
        """Other files that were read, one of which may be what is wrong."""
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """The problems, with the place of each as compilers have it."""
        return [f"{self.path}{f':{each.line}' if each.line else ''}: {each}" for each in self.problems]


@dataclass(frozen=True, slots=True)
class CamerasFile:
    """A file that was read."""

    cameras: tuple[CameraOptions, ...]
    """In the order of the file."""
    depends_on: tuple[Path, ...]
    """Other files that were read."""


class _Layout(BaseModel):
    model_config = ConfigDict(extra="forbid")

    defaults: dict[str, Any] = {}
    cameras: list[dict[str, Any]]


def read_cameras(path: Path, environ: Mapping[str, str] = os.environ) -> CamerasFile:
    """Returns the cameras in a file. Raises CamerasFileError with everything that is wrong."""
    try:
        content = read_plain_file(path, MOST_BYTES + 1)
    except OSError as error:
        raise CamerasFileError(path, [Problem(0, f"can't be read: {error.strerror or error}")]) from None
    if len(content) > MOST_BYTES:
        raise CamerasFileError(path, [Problem(0, f"has more than {MOST_BYTES} bytes")])
    reader = _Reader(path.absolute().parent, environ)
    cameras = reader.read(content)
    if reader.problems:
        problems = sorted(reader.problems, key=lambda problem: problem.line)
        raise CamerasFileError(path, problems, reader.depends_on)
    return CamerasFile(tuple(cameras), tuple(reader.depends_on))


class _Reader:
    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.depends_on: list[Path] = []
        self._folder = folder
        self._environ = environ
        self._lines: dict[Place, int] = {}
        """Of each key and each item of a list."""
        self._seen: set[int] = set()
        """The nodes so far."""

    def read(self, content: bytes) -> list[CameraOptions]:
        try:
            if line := _too_deep(content):
                self._complain(line, f"more than {MOST_LEVELS} lists and mappings in each other")
                return []
            node = yaml.compose(content, Loader=_LOADER)
            data = self._plain(node, ()) if node else {}
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._complain(mark.line + 1 if mark else 0, f"this isn't YAML: {_without_values(error.problem or '')}")
            return []
        except (yaml.YAMLError, UnicodeError):
            self._complain(0, "this isn't YAML, or not text in UTF-8")
            return []
        if self.problems:
            return []
        try:
            layout = _Layout.model_validate(data, strict=False)
        except ValidationError as error:
            for sentence, place in _sentences(error, ("defaults", "cameras")):
                self._complain(self._line(place), sentence)
            return []
        return self._cameras(layout)

    def _cameras(self, layout: _Layout) -> list[CameraOptions]:
        if not self._validated(CameraDefaults, layout.defaults, ("defaults",), ""):
            return []
        cameras, lines = [], dict[str, int]()
        for index, given in enumerate(layout.cameras):
            place: Place = ("cameras", index)
            name = given.get("name")
            if not isinstance(name, str) or stream_name_error(name):
                name = f"number {index + 1}"
            entry = self._validated(CameraEntry, {**layout.defaults, **given}, place, name)
            if not isinstance(entry, CameraEntry):
                continue
            line = self._line((*place, "name"))
            if entry.name in lines:
                self._complain(line, f"the name is that of the camera in line {lines[entry.name]}", name)
                continue
            lines[entry.name] = line
            self.depends_on += entry.secret_files(self._folder)
            try:
                cameras.append(entry.options(self._folder, self._environ))
            except ValueError as error:
                self._complain(self._line(place), str(error), name)
        return cameras

    def _validated(
        self, model: type[CameraDefaults], given: Mapping[str, Any], place: Place, name: str
    ) -> CameraDefaults | None:
        try:
            return model.model_validate(given)
        except ValidationError as error:
            known = [str(field.alias) for field in model.model_fields.values()]
            for sentence, within in _sentences(error, known):
                self._complain(self._line((*place, *within)), sentence, name)
            return None

    def _plain(self, node: yaml.Node, place: Place) -> Any:
        """Returns a node's value, and notes the lines of what is in it."""
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if id(node) in self._seen:
            self._complain(line, "aliases (*) aren't supported; put what cameras share under defaults")
            return ""
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(each, (*place, index)) for index, each in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return node.value
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            key_line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                self._complain(key_line, "a key must be a word")
                continue
            if key in values:
                self._complain(key_line, f"{key} is given twice")
                continue
            self._lines[(*place, key)] = key_line
            values[key] = self._plain(value_node, (*place, key))
        return values

    def _line(self, place: Place) -> int:
        """Returns the line of a place, or of what it is in."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 0)

    def _complain(self, line: int, text: str, camera: str = "") -> None:
        self.problems.append(Problem(line, text, camera))


def _too_deep(content: bytes) -> int:
    """Returns the line where lists and mappings are too deep in each other; 0 if they aren't. Raises yaml.YAMLError."""
    level = 0
    for event in yaml.parse(content, Loader=_LOADER):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            return int(event.start_mark.line) + 1 if event.start_mark else 1
    return 0


def _sentences(error: ValidationError, known: Iterable[str]) -> list[tuple[str, Place]]:
    """Returns what is wrong and where, without the values: they may be secret."""
    found: list[tuple[str, Place]] = []
    for each in error.errors(include_url=False, include_input=False):
        place = tuple(each["loc"])
        key = ".".join(str(part) for part in place)
        if not place:
            found.append(("expected the keys cameras and, if wanted, defaults", place))
        elif each["type"] == "extra_forbidden":
            if not _KEY.fullmatch(key):  # it may be a URL with a password
                found.append(("an unknown key", place[:-1]))
                continue
            similar = difflib.get_close_matches(key, list(known), 1)
            hint = f", did you mean {similar[0]}?" if similar else f"; there are {', '.join(known)}"
            found.append((f"unknown key {key}{hint}", place))
        elif each["type"] == "missing":
            found.append((f"{key} is missing", place))
        else:
            message = each["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
            message = message.replace("Input should be", "must be", 1)
            found.append((f"{key}: {message[:1].lower()}{message[1:]}", place))
    return found


def _without_values(text: str) -> str:
    """Returns a message of the YAML parser without what it quotes but single characters."""
    return re.sub(r"'[^']{2,}'|\"[^\"]{2,}\"", "…", text)
