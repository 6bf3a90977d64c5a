"""Runs a parsed command, and turns what may go wrong into one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import redis

from console.control.failures import failure_in_words
from console.control.names import shown
from console.fpsctl.report import DONE, FAILED, INTERRUPTED, WRONG_USAGE, FpsctlError

_MOST = 2000


def run(command: Any, argv: list[str], program: str) -> int:
    """Runs a command.

    Args:
        command: made by typer.
        argv: its arguments.
        program: its name, with which errors begin.

    Returns:
        The exit code.
    """
    from typer import exceptions

    try:
        code = command.main(args=argv, prog_name=program, standalone_mode=False)
    except FpsctlError as error:
        return _failed(program, str(error), error.code)
    except redis.RedisError as error:
        what, hint = failure_in_words(error)
        return _failed(program, f"{what} ({hint})" if hint else what, FAILED)
    except (KeyboardInterrupt, exceptions.Abort):
        return INTERRUPTED
    except exceptions.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        context = getattr(error, "ctx", None)
        return _failed(program, f"{message} (see {context.command_path if context else program} --help)", WRONG_USAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else DONE


def _failed(program: str, message: str, code: int) -> int:
    for line in message.splitlines() or [""]:
        sys.stderr.write(f"{program}: {shown(line, _MOST)}\n")
    return code
