"""The extras of the distribution: without one, its program says what to install instead of failing with a traceback."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

FAILED: Final = 1
OURS: Final = frozenset({"console", "handcounter", "process", "sidecar", "worker"})


@contextlib.contextmanager
def required_extra(extra: str, program: str) -> Iterator[None]:
    """Turns a missing package into one line on standard error and exit code 1.

    Args:
        extra: the extra that installs everything that the block imports.
        program: the name of the program, with which the line begins.

    Raises:
        SystemExit: A package of another distribution is missing.
        ModuleNotFoundError: A module of this distribution is missing, which no extra installs.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:
            raise
        sys.stderr.write(f"{program}: {package} isn't installed, run: pip install 'hamer-hand-counter[{extra}]'\n")
        raise SystemExit(FAILED) from None
