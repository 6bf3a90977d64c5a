"""The examples below the help of fpsctl's commands."""

import shlex
from typing import Any

import pytest
import typer.main

from console.fpsctl.app import app
from console.fpsctl.examples import EXAMPLES, below_help

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_command_has_examples() -> None:
    """And no examples belong to a command that doesn't exist."""
    assert {name for name, lines in EXAMPLES.items() if lines} == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_they_are_command_lines_of_that_command(name: str) -> None:
    """Its arguments and flags exist, the help shows each, and each fits into 80 columns."""
    command = COMMANDS[name]
    assert command.epilog == below_help(name)
    for line in EXAMPLES[name]:
        program, given, *words = shlex.split(line.partition("  ")[0].partition(" > ")[0])
        assert (program, given) == ("fpsctl", name)
        command.make_context(name, words)
        assert len(line) <= 76
