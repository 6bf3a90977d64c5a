"""The command explain: everything about one stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import redis
import typer

from console.control.durations import show_duration, show_time
from console.control.names import nearest, quoted, shown
from console.control.rule import WILDCARD, in_force
from console.control.states import State
from console.fpsctl import show
from console.fpsctl.advice import advice, reason
from console.fpsctl.board import paced_of
from console.fpsctl.completion import complete_stream
from console.fpsctl.report import WRONG_USAGE, FpsctlError
from console.fpsctl.rows import Paced, Row, number, row
from console.fpsctl.session import Session

_SAME_CLOCK_S = 86_400.0
"""A capture time nearer to now than this is taken for Unix seconds."""


def explain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_stream)],
    json: Annotated[bool, typer.Option("--json", help="one JSON object, see docs/fpsctl.md")] = False,
) -> None:
    """Explain one stream: its limit, its last decisions, when its next frame is due, and what to do. Changes nothing."""
    session: Session = context.obj
    if name == WILDCARD:
        raise FpsctlError("* isn't a stream, but the limit of all others: fpsctl get '*'", WRONG_USAGE)
    limits, now = session.limits.of([name]), session.now()
    said = session.sidecars.streams(name)
    paced = {each.address: paced_of(stream) for each in said for stream in each.streams if stream.stream_name == name}
    default = session.sidecars.default_fps()
    counted, camera = session.workers.streams([name]).get(name), session.workers.cameras([name]).get(name)
    known = row(name, limits, now, default=default, paced=list(paced.values()), counted=counted, camera=camera)
    found = in_force(name, limits, now, default)
    last = None
    with contextlib.suppress(redis.ResponseError):  # this user may not read the audit
        last = next((entry for entry in session.limits.audit() if entry.change.name == name), None)
    similar = ""
    if known.state is State.UNSEEN:
        similar = next(iter(nearest(name, sorted(session.streams() - {name}))), "")
    todo = advice(
        known,
        applied={address: each.fps for address, each in paced.items()},
        stale=any(each.stale for each in paced.values()),
        unread=any(each.unread for each in paced.values()),
        similar=similar,
    )
    if json:
        record = {**asdict(known), "state": known.state.value, "advice": todo}
        record["sidecars"] = {address: asdict(each) for address, each in paced.items()}
        record["camera_hash"] = camera or {}
        session.report.json(record)
        return
    report = session.report
    report.line(f"{quoted(name)}: {known.state}")
    report.line(f"  limit     {show.limit(known.limit)}, from {show.origin(found, now)}")
    if last:
        report.line(f"  changed   {show.sentence(last)}, {show.ago(last.at, now)} ({show_time(last.at)})")
    for address, each in paced.items():
        for line in _sidecar(address, each, now):
            report.line(line)
    for line in [*_worker(known, counted), *_camera(camera, now)]:
        report.line(line)
    for sentence in todo:
        report.line(f"  → {sentence}")
    problems = session.sidecars.problems(said) + [text for text in [session.workers.problem] if text]
    for problem in problems:
        report.note(problem)


def _sidecar(address: str, paced: Paced, now: float) -> Iterator[str]:
    yield (
        f"  sidecar   {shown(address)}: {paced.admitted} admitted, {paced.denied} denied, "
        f"{show.rate(paced.admitted_fps)}/s at present"
    )
    yield f"  last      {paced.last_reason.lower()}" + (
        f": {reason(paced.last_reason)}" if paced.last_reason != "ADMITTED" else ""
    )
    yield f"  next      {_due(paced, now)}"


def _due(paced: Paced, now: float) -> str:
    """Returns when the next frame is due, in words."""
    if paced.fps == 0.0:
        return "none, since it is paused"
    if not paced.last_ts:
        return "any frame, since none was admitted yet"
    after = paced.next_ts - paced.last_ts
    if abs(paced.last_ts - now) < _SAME_CLOCK_S:
        left = paced.next_ts - now
        due = "due now" if left <= 0.0 else f"due in {left:.1f} s"
        return f"a frame captured {after:.2f} s after the last admitted one: {due}"
    return f"a frame captured {after:.2f} s after the last admitted one, whose ts is {paced.last_ts:g}"


def _worker(known: Row, counted: dict[str, str] | None) -> Iterator[str]:
    if not counted:
        return
    yield (
        f"  workers   {show.rate(known.source_fps)}/s come, {show.rate(known.counted_fps)}/s are counted; "
        f"{known.counted} counted, {known.skipped} skipped, {known.dead} dead"
    )
    for skip, frames in known.skips.items():
        yield f"  skipped   {frames} as {shown(skip)}: {reason(skip)}"
    if not known.skips and (skip := counted.get("last_skip", "")):
        yield f"  skipped   the last one as {shown(skip)}: {reason(skip)}"
    if known.hands is not None:
        age = "" if known.age is None else f"; the newest frame came {show_duration(known.age)} ago"
        yield f"  hands     {known.hands} in the last counted frame{age}"


def _camera(camera: dict[str, str] | None, now: float) -> Iterator[str]:
    if not camera:
        return
    words = [camera.get("state", ""), camera.get("codec", ""), camera.get("size", ""), camera.get("source", "")]
    host = f", published by {shown(camera['host'])}" if camera.get("host") else ""
    yield f"  camera    {shown(' '.join(filter(None, words)))}{host}"
    if camera.get("error"):
        at = number(camera.get("error_at"))
        when = f" ({show.ago(at, now)})" if at else ""
        yield f"  error     {shown(camera['error'])}{when}"
