"""``python -m console.web``: the same as ``hand-counter console``, where only the console is installed."""

import os
import sys
from collections.abc import Sequence

from process import logs, native_lines
from process.extras import required_extra

PROGRAM = "hand-counter console"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the console until a signal; returns the exit code."""
    native_lines.prepare(sys.argv[1:] if argv is None else argv, os.environ, "CONSOLE_")
    with required_extra("console", PROGRAM):
        from console.web.settings import ConsoleSettings
        from process.settings import parse, unknown_variables
        from process.version import version

        logs.silence_grpc()
        settings = parse(ConsoleSettings, argv, prog=PROGRAM, epilog=ConsoleSettings.EXAMPLES, version=version())
        logs.set_up(settings.log_level, settings.log_format)
        logs.warn_of_unknown(unknown_variables([ConsoleSettings], os.environ))
        from console.web.running import run_console  # --help does without the server
    return run_console(**settings.arguments())


if __name__ == "__main__":
    sys.exit(main())
