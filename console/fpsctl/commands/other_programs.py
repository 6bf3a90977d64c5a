"""The commands about pictures: results, which reads the results in Redis, and probe, which the worker's program does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from console.control.durations import show_time
from console.control.names import shown
from console.fpsctl.completion import complete_stream
from console.fpsctl.report import WRONG_USAGE, FpsctlError
from console.fpsctl.session import Session

WORKER_PROGRAM = "hand-counter"
BLOCK_MS = 500
PAGE = 500


def results(
    context: typer.Context,
    stream: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_stream)] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with those to come, until Ctrl-C")] = False,
    last: Annotated[int, typer.Option("--last", min=0, help="so many of the newest that Redis keeps")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a line, as docs/results.md describes")
    ] = False,
) -> None:
    """Print results: the newest that Redis keeps, and with --follow those to come."""
    session: Session = context.obj
    keys = [f"{tag}:counts" for tag in session.workers.tags()]
    ids = dict.fromkeys(keys, "0-0")
    kept: list[tuple[str, dict[str, str]]] = []
    client: Any = session.client
    for key in keys:
        newest = client.xrevrange(key, count=1)
        ids[key] = newest[0][0] if newest else "0-0"
        kept += _kept(client, key, stream, last)
    for entry_id, fields in sorted(kept, key=lambda each: _order(each[0]))[-last:] if last else ():
        _print(session, entry_id, fields, as_json)
    while follow and not session.report.output.problem:
        for entry_id, fields in _new(client, ids):
            if not stream or fields.get("stream_name") == stream:
                _print(session, entry_id, fields, as_json)


def probe(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", envvar="FPSCTL_SOURCE", help="as of hand-counter publish: a file, webcam or URL"
        ),
    ] = "",
    source_file: Annotated[str, typer.Option("--source-file", metavar="PATH", help="file whose text is SOURCE")] = "",
    snapshot: Annotated[str, typer.Option("--snapshot", metavar="FILE", help="write the first picture, a JPEG")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, see docs/fpsctl.md")] = False,
) -> None:
    """Try a camera: its codec, size, frames per second and a picture, or the reason why it fails. Needs hand-counter."""
    if bool(source) == bool(source_file):
        raise FpsctlError("expected SOURCE or --source-file", WRONG_USAGE)
    beside = Path(sys.argv[0]).resolve().parent / WORKER_PROGRAM
    program = str(beside) if beside.is_file() else shutil.which(WORKER_PROGRAM)
    if program is None:
        raise FpsctlError("hand-counter isn't installed here, run: pip install 'hamer-hand-counter[worker]'")
    flags = [*(["--snapshot", snapshot] if snapshot else []), *(["--json"] if as_json else [])]
    # Other users can see arguments, and a URL may hold a password.
    given = {"WORKER_SOURCE_FILE": source_file} if source_file else {"WORKER_SOURCE": source}
    without = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_SOURCE")}
    code = subprocess.run([program, "probe", *flags], env={**without, **given}, check=False).returncode
    if code:
        raise typer.Exit(code)


def _kept(client: Any, key: str, stream: str, most: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the newest entries that are kept of a stream, the newest first."""
    end, left = "+", most
    while left > 0 and (page := client.xrevrange(key, max=end, count=PAGE)):
        for entry_id, fields in page:
            if left > 0 and (not stream or fields.get("stream_name") == stream):
                left -= 1
                yield entry_id, fields
        end = f"({page[-1][0]}"


def _new(client: Any, ids: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Waits a moment for new entries, yields them, and notes their ids. In a cluster each key is on a node of its own."""
    if isinstance(client, redis.RedisCluster):
        answers: list[Any] = [each for key in ids for each in client.xread({key: ids[key]}, count=PAGE) or ()]
        if not answers:
            time.sleep(BLOCK_MS / 1000)
    else:
        answers = client.xread(ids, count=PAGE, block=BLOCK_MS) or []
    for key, entries in answers:
        for entry_id, fields in entries:
            ids[key] = entry_id
            yield entry_id, fields


def _in_ascii(text: str) -> str:
    """Returns JSON with JSON's escapes for what isn't printable ASCII, since a name in it is hostile text."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter.isascii() and letter.isprintable() else "".join(f"\\u{unit:04x}" for unit in _utf_16(letter))
        for letter in text
    )


def _utf_16(letter: str) -> memoryview:
    return memoryview(letter.encode("utf-16-le" if sys.byteorder == "little" else "utf-16-be", "surrogatepass")).cast(
        "H"
    )


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _print(session: Session, entry_id: str, fields: dict[str, str], as_json: bool) -> None:
    text = fields.get("result", "")
    if as_json:
        session.report.line(_in_ascii(text))
        return
    try:
        result = json.loads(text)
        hands, age = int(result["hand_count"]), result["timings"]["queue_age"]
    except (ValueError, KeyError, TypeError, OverflowError):  # not one of a worker
        return
    at = show_time(_order(entry_id)[0] / 1000)
    late = "" if not isinstance(age, int | float) else f"  {age:.2f} s old"
    session.report.line(f"{at}  {shown(fields.get('stream_name', ''))}  {hands} hand{'' if hands == 1 else 's'}{late}")
