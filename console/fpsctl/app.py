"""The command line: the program's flags, and which command is which function."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated

import typer

from console.control.keys import DEFAULT_CONFIG_KEY
from console.fpsctl.commands import audit, change, check, doctor, documents, explain, other_programs, read, top, watch
from console.fpsctl.connect import session_from
from console.fpsctl.examples import below_help
from console.fpsctl.session import DEFAULT_PREFIX
from process.version import version

EPILOG = """
\b
examples:
  fpsctl top                              all streams, live
  fpsctl set cam1 0.25                    one frame in four seconds; 0 pauses, inf lifts the limit
  fpsctl set 'floor1-*' 2                 the streams that match at present; --pattern also those to come
  fpsctl boost cam1 10 --for 1h           then its own limit again
  fpsctl pause cam1                       and fpsctl resume cam1, fpsctl undo
  fpsctl explain cam1                     why its frames are counted, or not
  fpsctl export > limits.yaml             and fpsctl diff, fpsctl import
  fpsctl doctor                           is everything as it should be?

The flags may be given before or after the command, and each is also a variable, FPSCTL_REDIS_URL for --redis-url. Inside a
container of the sidecar or the worker, theirs are used.

Exit codes: 0 done; 1 failed, and nothing was changed unless it says so; 2 wrong usage; 3 a check found something (lint,
diff, doctor); 130 interrupted.
"""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fpsctl {version()}")
        raise typer.Exit


app = typer.Typer(
    name="fpsctl",
    help="See and change the frames per second of camera streams.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


@app.callback()
def _flags(
    context: typer.Context,
    redis_url: Annotated[
        str,
        typer.Option(
            envvar="FPSCTL_REDIS_URL",
            metavar="URL",
            help="redis://, rediss:// (TLS), unix://, redis+sentinel://HOST:PORT,…/SERVICE/DB, redis+cluster://HOST:PORT,…",
        ),
    ] = "redis://127.0.0.1:6379/0",
    redis_username: Annotated[str, typer.Option(envvar="FPSCTL_REDIS_USERNAME", help="user for the login")] = "",
    redis_password: Annotated[
        str,
        typer.Option(
            envvar="FPSCTL_REDIS_PASSWORD",
            show_envvar=True,
            help="use the variable or the file: others can see flags",
        ),
    ] = "",
    redis_password_file: Annotated[
        str, typer.Option(envvar="FPSCTL_REDIS_PASSWORD_FILE", metavar="PATH", help="file with the password")
    ] = "",
    redis_ca: Annotated[
        str, typer.Option(envvar="FPSCTL_REDIS_CA", metavar="PATH", help="CA certificate that verifies Redis (PEM)")
    ] = "",
    redis_cert: Annotated[
        str, typer.Option(envvar="FPSCTL_REDIS_CERT", metavar="PATH", help="client certificate for Redis (PEM)")
    ] = "",
    redis_key: Annotated[str, typer.Option(envvar="FPSCTL_REDIS_KEY", metavar="PATH", help="its key (PEM)")] = "",
    redis_sentinel_username: Annotated[
        str, typer.Option(envvar="FPSCTL_REDIS_SENTINEL_USERNAME", help="user at the Sentinels")
    ] = "",
    redis_sentinel_password: Annotated[
        str,
        typer.Option(
            envvar="FPSCTL_REDIS_SENTINEL_PASSWORD",
            help="password at the Sentinels (ps shows a flag to everybody, but not a variable)",
        ),
    ] = "",
    config_key: Annotated[
        str, typer.Option(envvar="FPSCTL_CONFIG_KEY", metavar="KEY", help="the hash of limits")
    ] = DEFAULT_CONFIG_KEY,
    prefix: Annotated[
        str, typer.Option(envvar="FPSCTL_PREFIX", help="of the keys of the queue: {prefix}:frames, ...")
    ] = DEFAULT_PREFIX,
    sidecar: Annotated[
        list[str] | None,
        typer.Option(
            envvar="FPSCTL_SIDECAR",
            metavar="ADDRESS",
            help="HOST:PORT or unix:/path, may be repeated; a name that stands for several addresses is all of them; "
            "default 127.0.0.1:50051, which needn't exist",
        ),
    ] = None,
    sidecar_ca: Annotated[
        str,
        typer.Option(envvar="FPSCTL_SIDECAR_CA", metavar="PATH", help="CA certificate of the sidecars; enables TLS"),
    ] = "",
    sidecar_cert: Annotated[
        str,
        typer.Option(envvar="FPSCTL_SIDECAR_CERT", metavar="PATH", help="client certificate for the sidecars (PEM)"),
    ] = "",
    sidecar_key: Annotated[
        str, typer.Option(envvar="FPSCTL_SIDECAR_KEY", metavar="PATH", help="its private key (PEM)")
    ] = "",
    who: Annotated[
        str, typer.Option(envvar="FPSCTL_WHO", metavar="NAME", help="who you are, for the audit; default USER@HOST")
    ] = "",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    context.obj = context.with_resource(contextlib.closing(session_from(context.params)))


COMMANDS: dict[str, tuple[Callable[..., object], str]] = {
    "top": (top.top, "all streams, live"),
    "list": (read.list_, "the limits, and where each comes from"),
    "get": (read.get, "the limit of one stream"),
    "explain": (explain.explain, "everything about one stream"),
    "set": (change.set_, "set a limit"),
    "pause": (change.pause_, "pause streams"),
    "resume": (change.resume_, "end pauses"),
    "reset": (change.reset_, "remove own limits"),
    "boost": (change.boost_, "another limit for a time"),
    "undo": (change.undo_, "revert a change"),
    "audit": (audit.audit, "who changed what, and when"),
    "watch": (watch.watch, "changes as they are made"),
    "lint": (check.lint_, "find limits without effect"),
    "doctor": (doctor.doctor, "check everything"),
    "import": (documents.import_, "set the limits of a document"),
    "export": (documents.export, "print the limits as a document"),
    "diff": (documents.diff, "what an import would change"),
    "results": (other_programs.results, "hands as they are counted"),
    "probe": (other_programs.probe, "try a camera"),
}
for name, (function, summary) in COMMANDS.items():
    app.command(name, short_help=summary, epilog=below_help(name))(function)
