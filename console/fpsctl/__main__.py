"""The command fpsctl, also ``python -m console.fpsctl``."""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from process.extras import required_extra

PROGRAM = "fpsctl"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0 done, 1 failed, 2 wrong usage, 3 found something, 130 interrupted."""
    with required_extra("ctl", PROGRAM):
        run = _program(list(sys.argv[1:] if argv is None else argv))
    return run()


def _program(argv: list[str]) -> Callable[[], int]:
    """Imports what every command needs; returns what then runs."""
    import yaml  # noqa: F401  (a command that needs it would fail in its middle)

    from console.fpsctl.arguments import global_flags_first, inherited
    from console.fpsctl.run import run
    from process import logs

    logs.silence_grpc()
    os.environ.update(inherited(os.environ))
    command = _command()
    flags = {
        flag: not getattr(parameter, "is_flag", False)
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--") and flag not in ("--version", "--help", "--install-completion", "--show-completion")
    }
    return lambda: run(command, global_flags_first(argv, flags), PROGRAM)


@functools.cache  # building it takes longer than most commands
def _command() -> Any:
    """Returns the program with all its commands, built from their functions."""
    import typer.main

    from console.fpsctl.app import app

    return typer.main.get_command(app)


if __name__ == "__main__":
    sys.exit(main())
