"""The command line: ``hand-counter`` or ``python -m worker``.

A subcommand is a row of COMMANDS: a settings class (see worker/settings.py) and a function, which gets the settings as
arguments, does the work and returns the exit code. Only the subcommand that was called is imported, so --help is quick
and ``publish`` loads no models.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from process import logs, native_lines
from process.extras import required_extra
from process.version import version
from worker.stop_signals import end_at_signals

PROGRAM = "hand-counter"


class Command(NamedTuple):
    """A subcommand."""

    words: tuple[str, ...]
    """Its name, of one or two words."""
    settings: str
    """Its settings class, as MODULE:NAME."""
    function: str
    """The function that does the work, as MODULE:NAME."""
    help: str
    extra: str = "worker"
    """What installs what it needs."""


COMMANDS = (
    Command(
        ("run",),
        "worker.run_settings:RunSettings",
        "worker.hand_counter:run",
        "count the hands in the frames of the queue",
    ),
    Command(
        ("detect",),
        "worker.detect_settings:DetectSettings",
        "worker.detect:run_detect",
        "find the hands in image files",
    ),
    Command(
        ("publish",),
        "worker.publish.settings:PublishSettings",
        "worker.publish.command:run_publish",
        "publish frames from a camera, a video file or a folder",
    ),
    Command(
        ("ingest",),
        "worker.publish.ingest_settings:IngestSettings",
        "worker.publish.ingest_command:run_ingest",
        "publish frames from many cameras in one process",
    ),
    Command(
        ("probe",),
        "worker.publish.trial_settings:ProbeSettings",
        "worker.publish.trial:run_probe",
        "try a camera or file: its codec, size and rate, or the reason why it fails",
    ),
    Command(
        ("results",),
        "worker.results_settings:ResultsSettings",
        "worker.results_command:run_results",
        "print the results that Redis keeps, and those to come",
    ),
    Command(
        ("console",),
        "console.web.settings:ConsoleSettings",
        "console.web.running:run_console",
        "serve a web page with every camera and its limit",
        extra="console",
    ),
    Command(
        ("repartition",),
        "worker.repartition_settings:RepartitionSettings",
        "worker.repartition_command:run_repartition",
        "divide a drained queue into another number of partitions",
    ),
    Command(
        ("demo",),
        "worker.demo.settings:DemoSettings",
        "worker.demo.command:run_demo",
        "run the whole service on this machine and check it",
    ),
    Command(
        ("models", "fetch"),
        "worker.detect_settings:ModelsFetchSettings",
        "worker.models_command:run_models_fetch",
        "download the hand models",
    ),
)

EXAMPLES = """\
examples:
  hand-counter demo                                          run the whole service on this machine
  hand-counter publish video.mp4 --stream-name cam1 --loop   publish a video as a camera
  hand-counter ingest cameras.yaml                           publish many cameras
  hand-counter run --redis-url redis://127.0.0.1:6379/0      run a worker
  hand-counter detect photo.jpg --draw out/                  run the detector alone
  hand-counter COMMAND --help                                show a command's flags and examples
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit code: 0 done, 1 failed, 2 wrong usage."""
    logs.silence_grpc()
    end_at_signals()
    words = list(sys.argv[1:] if argv is None else argv)
    extra = next((each.extra for each in COMMANDS if tuple(words[: len(each.words)]) == each.words), "worker")
    native_lines.prepare(words, os.environ, f"{extra.upper()}_")
    with required_extra(extra, PROGRAM):
        run = _program(words)
    return run()


def _program(argv: list[str]) -> Callable[[], int]:
    """Loads a subcommand with its settings, and nothing else; returns what runs it."""
    for command in COMMANDS:
        if tuple(argv[: len(command.words)]) == command.words:
            return _load_command(command, argv[len(command.words) :])
    return _explain(argv)


def _load_command(command: Command, argv: list[str]) -> Callable[[], int]:
    from process.settings import Parser, add_flags, settings_from, unknown_variables

    settings_class = _load(command.settings)
    prog = " ".join((PROGRAM, *command.words))
    parser = Parser(prog=prog, description=settings_class.__doc__, epilog=settings_class.EXAMPLES)
    add_flags(parser, settings_class)
    settings = settings_from(settings_class, parser.parse_args(argv), parser)
    logs.set_up(settings.log_level, settings.log_format)
    # Most often the command's own settings explain all variables, and the other commands' needn't be imported.
    if unknown_variables([settings_class], os.environ):
        logs.warn_of_unknown(unknown_variables([_load(each.settings) for each in COMMANDS], os.environ))
    function = _load(command.function)
    return lambda: int(function(**settings.arguments()))


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _explain(argv: list[str]) -> NoReturn:
    """Exits with the help or the version if asked for, else because of wrong usage."""
    from process.settings import Parser

    names = [" ".join(command.words) for command in COMMANDS]
    width = max(map(len, names))
    listing = "\n".join(f"  {name:{width}}  {command.help}" for name, command in zip(names, COMMANDS, strict=True))
    parser = Parser(
        prog="hand-counter",
        usage="hand-counter COMMAND ...",
        description=f"Counts hands in camera streams, each at its own frames per second.\n\ncommands:\n{listing}",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"hand-counter {version()}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    # A word that isn't a command by itself may precede --help, as in `models --help`.
    given, _ = parser.parse_known_args(argv[:1] if argv[1:2] not in (["--help"], ["-h"]) else argv[:2])
    problem = "expected a command" if given.command is None else f"unknown command {' '.join(argv[:2])!r}, expected"
    parser.error(f"{problem}: {', '.join(names)}")


if __name__ == "__main__":
    sys.exit(main())
