"""Limits as documents, YAML and CSV, and what a document would change. No I/O."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import yaml

from console.control.changes import Change, Kind, Snapshot
from console.control.names import quoted
from console.control.plan import pattern_fault
from console.control.rule import format_fps, parse_fps
from handcounter.pacing.schedule import stream_name_error
from process.csv_cells import cell_of, text_of

_SECTIONS = {"limits": Kind.LIMIT, "patterns": Kind.PATTERN}
_COLUMNS = ("kind", "name", "fps")
_MOST_ERRORS = 20


class DocumentError(ValueError):
    """A document can't be used; the message has a line for each mistake."""


class _Row(NamedTuple):
    line: int
    kind: Kind
    name: str
    fps: str


def from_yaml(text: str) -> Snapshot:
    """Returns the limits of a YAML document: the mappings ``limits`` and ``patterns`` of names to fps.

    Every scalar is text, so ``no`` and ``1:30`` are names like any other.

    Raises:
        DocumentError: It isn't such a document, or has invalid names or fps, or a name twice.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise DocumentError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise DocumentError("too deeply nested: expected the mappings limits and patterns") from None
    if root is None:
        return Snapshot()
    if not isinstance(root, yaml.MappingNode):
        raise DocumentError("expected the mappings limits and patterns")
    return _snapshot(_yaml_rows(root))


def _yaml_rows(root: yaml.MappingNode) -> Iterator[_Row]:
    for section, content in root.value:
        line = section.start_mark.line + 1
        kind = _SECTIONS.get(section.value) if isinstance(section, yaml.ScalarNode) else None
        if kind is None:
            raise DocumentError(f"line {line}: expected limits or patterns")
        if isinstance(content, yaml.ScalarNode) and not content.value:
            continue
        if not isinstance(content, yaml.MappingNode):
            raise DocumentError(f"line {line}: expected a mapping of names to fps")
        for name, fps in content.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode) or not isinstance(fps, yaml.ScalarNode):
                raise DocumentError(f"line {line}: expected NAME: FPS")
            yield _Row(line, kind, name.value, fps.value.replace(".inf", "inf"))


def from_csv(text: str) -> Snapshot:
    """Returns the limits of a CSV document with the columns kind (limit or pattern), name and fps.

    Raises:
        DocumentError: It isn't such a document, or has invalid names or fps, or a name twice.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        head = tuple(next(reader, ()))
        if head != _COLUMNS:
            raise DocumentError(f"line 1: expected {','.join(_COLUMNS)}")
        return _snapshot(_csv_rows((reader.line_num, words) for words in reader))
    except csv.Error as error:
        raise DocumentError(f"line {reader.line_num}: not CSV: {error}") from None


def _csv_rows(rows: Iterable[tuple[int, list[str]]]) -> Iterator[_Row]:
    for line, words in rows:
        if not words:
            continue
        if len(words) != len(_COLUMNS) or words[0] not in _SECTIONS.keys() | {"limit", "pattern"}:
            raise DocumentError(f"line {line}: expected limit,NAME,FPS or pattern,NAME,FPS")
        yield _Row(line, Kind(words[0].removesuffix("s")), text_of(words[1]), text_of(words[2]))


def to_yaml(snapshot: Snapshot) -> str:
    """Returns the limits as YAML, in the order of the names. Boosts aren't part of a document, since they end."""
    lines = []
    for section, kind in _SECTIONS.items():
        lines.append(f"{section}:" if snapshot.of(kind) else f"{section}: {{}}")
        lines += [f"  {_yaml_text(name)}: {_value(value)}" for name, value in sorted(snapshot.of(kind).items())]
    return "\n".join(lines) + "\n"


def to_csv(snapshot: Snapshot) -> str:
    """Returns the limits as CSV, in the order of the names.

    A name that a spreadsheet would take for a formula begins with an apostrophe there, which :func:`from_csv` removes.
    """
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for kind in _SECTIONS.values():
        writer.writerows(
            (kind.value, cell_of(name), cell_of(value)) for name, value in sorted(snapshot.of(kind).items())
        )
    return output.getvalue()


def difference(snapshot: Snapshot, document: Snapshot, *, replace: bool = False) -> tuple[Change, ...]:
    """Returns the changes that bring the limits to those of a document.

    Args:
        snapshot: all limits now.
        document: what they are to be.
        replace: whether limits and patterns that the document doesn't mention are removed; else they stay.
    """
    changes = []
    for kind in _SECTIONS.values():
        wanted, present = document.of(kind), snapshot.of(kind)
        for name in sorted({*wanted, *present} if replace else wanted):
            old, new = present.get(name, ""), wanted.get(name, "")
            if old != new and not _same(old, new):
                changes.append(Change(kind, name, old, new))
    return tuple(changes)


def _same(old: str, new: str) -> bool:
    """Returns whether two values mean the same, such as 2 and 2.0."""
    fps = parse_fps(old)
    return fps is not None and fps == parse_fps(new)


def _value(value: str) -> str:
    return value.strip() if parse_fps(value) is not None else _yaml_text(value)


def _yaml_text(text: str) -> str:
    """Returns a text between quotes, with YAML's escapes for what can't be printed."""
    return '"' + "".join(character if _plain(character) else _escaped(character) for character in text) + '"'


def _plain(character: str) -> bool:
    return character.isprintable() and character not in '"\\'


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _snapshot(rows: Iterator[_Row]) -> Snapshot:
    found: dict[Kind, dict[str, str]] = {kind: {} for kind in _SECTIONS.values()}
    errors = []
    for line, kind, name, text in rows:
        fps = parse_fps(text)
        problem = pattern_fault(name) if kind is Kind.PATTERN else stream_name_error(name)
        if fps is None:
            problem = problem or f"{quoted(text)} isn't a valid fps: 0 or more frames per second, or inf"
        if problem is None and name in found[kind]:
            problem = f"{quoted(name)} stands in the document twice"
        if problem or fps is None:
            errors.append(f"line {line}: {problem}")
        else:
            found[kind][name] = format_fps(fps)
    if errors:
        left = len(errors) - _MOST_ERRORS
        raise DocumentError("\n".join(errors[:_MOST_ERRORS]) + (f"\nand {left} more" if left > 0 else ""))
    return Snapshot(found[Kind.LIMIT], found[Kind.PATTERN])
