"""The command lines on the pages have commands and flags that exist."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from support.processes.programs import REPOSITORY

from console.fpsctl.app import app
from process.settings import described
from worker.__main__ import COMMANDS

LINE = re.compile(r"(?:(?<=`)|^\s*(?:\(|\$ )?)((?:hand-counter|fps-sidecar|fpsctl) (?:[^`\n\\]|\\\n?)*)", re.MULTILINE)
"""In a block or in backticks."""
END = re.compile(r"\s(?:\||\|\||&&|>|<|#)\s|\s{2,}#|\s#.*")
FLAG = re.compile(r"(?<=\s)(-(?:-[a-z][a-z-]*|[a-z]\b))")
OF_ALL = {"-h", "--help", "--version"}


def flags_of(settings: str) -> set[str]:
    """Returns the flags of a settings class, which is named as module:class."""
    module, _, name = settings.partition(":")
    return {each.name for each in described(getattr(importlib.import_module(module), name))}


def known() -> dict[str, set[str]]:
    """Returns the flags of each command."""
    commands = {f"hand-counter {' '.join(each.words)}": flags_of(each.settings) for each in COMMANDS}
    program: Any = typer.main.get_command(app)
    shared = {flag for each in program.params for flag in each.opts}
    for name, command in program.commands.items():
        commands[f"fpsctl {name}"] = shared | {flag for each in command.params for flag in each.opts}
    return commands | {
        "fps-sidecar": flags_of("sidecar.settings:SidecarSettings"),
        "hand-counter": set(),
        "fpsctl": shared,
    }


KNOWN = known()
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "decisions"]
"""The pages about what is, not about what was."""


def command_lines(text: str) -> Iterator[str]:
    """Yields the command lines on a page, each without comment, redirection and what follows a pipe."""
    for line in LINE.findall(text):
        yield END.split(line.replace("\\\n", " "))[0].strip()


def unknown(line: str) -> list[str]:
    """Returns what a command line has that doesn't exist."""
    program, *words = line.split()
    names = [" ".join([program, *words[:number]]) for number in (2, 1, 0)]
    name = next(name for name in names if name in KNOWN)
    named = [word for word in words[:1] if name in ("hand-counter", "fpsctl") and re.fullmatch("[a-z]+", word)]
    return named + sorted(set(FLAG.findall(line)) - KNOWN[name] - OF_ALL)


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_and_flags_exist(page: Path) -> None:
    """On every page."""
    assert [f"{line}: {wrong}" for line in command_lines(page.read_text()) if (wrong := unknown(line))] == []


def test_many_lines_are_found() -> None:
    """A pattern that matched nothing would check nothing."""
    lines = [line for page in CURRENT for line in command_lines(page.read_text())]
    assert len(set(lines)) > 100
    assert len({tuple(line.split()[:2]) for line in lines} & {tuple(name.split()[:2]) for name in KNOWN}) > 25


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fpsctl set cam1 2 --dry-run  # --not-a-flag", []),
        ("fpsctl set cam1 2 --dry", ["--dry"]),
        ("see `fpsctl sett cam1 2`", ["sett"]),
        ("hand-counter models fetch --hamer", []),
        ("hand-counter run \\\n    --own 0/4 --shares 2", ["--shares"]),
        ("fps-sidecar --fsp 1 | head --bytes 3", ["--fsp"]),
    ],
)
def test_what_is_wrong_is_found(text: str, expected: list[str]) -> None:
    """And nothing else."""
    assert [wrong for line in command_lines(text) for wrong in unknown(line)] == expected
