"""The command doctor: is everything as it should be?"""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from console.control.documents import to_yaml
from console.control.names import shown
from console.fpsctl.board import read_board
from console.fpsctl.bundle import environment, secrets_of, write_bundle
from console.fpsctl.checks import Check, Status
from console.fpsctl.examination import Examination
from console.fpsctl.report import FOUND, FpsctlError
from console.fpsctl.session import Session
from process.version import version

_SIGNS = {Status.OK: "ok", Status.WARNING: "WARN", Status.FAILED: "FAIL", Status.UNKNOWN: "?"}
_PREFIXES = ("FPSCTL_", "SIDECAR_", "WORKER_", "CONSOLE_")


def doctor(
    context: typer.Context,
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="FILE.tar.gz", help="write a support bundle, with secrets masked")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="one JSON object, see docs/fpsctl.md")] = False,
) -> int:
    """Check Redis, the permissions of its users, the limits, the queue, the sidecars, the models and the clock."""
    session: Session = context.obj
    examination = Examination(session)
    found: list[Check] = []
    for check in examination.checks():
        found.append(check)
        if not json:
            session.report.line(f"{_SIGNS[check.status]:4}  {shown(check.name)}: {shown(check.message, 500)}")
    if json:
        session.report.json({"checks": [{**check._asdict(), "status": check.status.value} for check in found]})
    if bundle:
        path = Path(bundle)
        try:
            write_bundle(path, _content(session, examination, found), _secrets(session))
        except OSError as error:
            raise FpsctlError(f"cannot write {bundle}: {error.strerror or error}") from None
        session.report.note(f"{bundle} is written; look into it before you send it: it has the names of your streams")
    return FOUND if any(check.status is Status.FAILED for check in found) else 0


def _content(session: Session, examination: Examination, found: list[Check]) -> dict[str, object]:
    """Returns the files of the bundle; a part that can't be read says why."""
    content: dict[str, object] = {
        "checks.json": [{**check._asdict(), "status": check.status.value} for check in found],
        "versions.json": {"fpsctl": version(), "python": platform.python_version(), "platform": platform.platform()},
        "environment.json": environment(os.environ, _PREFIXES),
        "redis-info.json": examination.info,
        "sidecars.json": [_said(each) for each in examination.said],
    }
    try:
        content["limits.yaml"] = to_yaml(session.limits.snapshot())
        content["audit.json"] = [
            {"id": entry.entry_id, **entry.change._asdict(), "who": entry.who, "tool": entry.tool}
            for entry in session.limits.audit(most=1000)
        ]
        content["streams.json"] = [asdict(row) for row in read_board(session).rows]
        content["accounting.json"] = session.workers.accounting()
    except redis.RedisError as error:
        content["problem.txt"] = f"{error}\n"
    return content


def _said(said: Any) -> dict[str, object]:
    info = said.info
    return {
        "address": said.address,
        "problem": said.problem,
        "version": info.version if info else "",
        "settings": dict(info.settings) if info else {},
        "redis_problem": info.redis_problem if info else "",
        "stream_count": info.stream_count if info else 0,
    }


def _secrets(session: Session) -> list[str]:
    given = [session.url.password, session.access.sentinel_password]
    if session.access.password_file:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            given.append(session.access.password_file.read_text().strip())
    return secrets_of(os.environ, *(secret for secret in given if secret))
