"""``hand-counter demo``: runs all phases, shows their outcome and judges it."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO, cast

import cv2
import redis

from process.address import mask_password
from process.output import Output
from worker.demo.annotate import annotated_frame
from worker.demo.options import DemoOptions
from worker.demo.plan import CAMERAS, PHASES, Limit, after, limit_of
from worker.demo.processes import DemoError
from worker.demo.screen import Screen
from worker.demo.stage import Stage
from worker.demo.verdict import Row, faults
from worker.download import Progress, download_progress
from worker.hands.models import TITLE, ModelError, default_models_dir, ensure_models
from worker.stop_signals import stop_signals

_REFRESH_S = 0.25
_LIST_STREAMS = "handcounter.ratelimit.v1.RateLimitService/ListStreams"


class DemoInterruptedError(Exception):
    """A signal ended the demo."""


def run_demo(options: DemoOptions) -> int:
    """Runs the demo.

    Returns:
        The exit code: 0 if all rates and counts were as configured, and could be written.
    """
    cv2.setNumThreads(1)  # three cameras draw at the same time, and the worker needs the cores
    interrupted = threading.Event()
    output, stderr = Output(sys.stdout), Output(sys.stderr)

    check_interrupt = functools.partial(_check_interrupt, interrupted)
    try:
        with (
            stop_signals(interrupted, patient=True),
            tempfile.TemporaryDirectory(prefix="hand-counter-demo-") as folder,
        ):
            models_dir = options.models_dir or default_models_dir()
            with download_progress(cast(TextIO, stderr), TITLE) as progress:
                ensure_models(models_dir, _interruptible(progress, check_interrupt))
            stage = Stage(Path(folder), options, models_dir=models_dir, check_interrupt=check_interrupt)
            deviations = _perform(stage, options, output, interrupted)
    except (DemoError, ModelError) as error:
        stderr.line(f"hand-counter demo: {error}")
        return 1
    except DemoInterruptedError:
        stderr.line("hand-counter demo: interrupted")
        return 1
    if output.problem:
        stderr.line(f"hand-counter demo: standard output failed: {output.problem}")
    return 1 if deviations or output.problem else 0


def _check_interrupt(interrupted: threading.Event) -> None:
    if interrupted.is_set():
        raise DemoInterruptedError


def _interruptible(progress: Progress, check_interrupt: Callable[[], None]) -> Progress:
    def report(done: int, total: int | None) -> None:
        check_interrupt()
        progress(done, total)

    return report


def _perform(stage: Stage, options: DemoOptions, output: Output, interrupted: threading.Event) -> list[str]:
    """Runs all phases and returns the deviations."""
    check_interrupt = functools.partial(_check_interrupt, interrupted)
    began = time.monotonic()
    with Screen(output=output) as screen, stage:
        try:
            screen.line("starting Valkey, the sidecar and the worker ...")
            stage.start()
            screen.line(f"look at it: {stage.console}  (the console: change limits there)")
            screen.line(f"watch it: redis-cli -u {mask_password(stage.redis_url)} HGETALL {stage.config_key}")
            screen.line(f"          grpcurl -plaintext {stage.sidecar} {_LIST_STREAMS}")
            if hint := programs_hint():
                screen.line(hint)
            own_seconds, stage_began = time.process_time(), time.monotonic()
            rows = [
                row
                for number in range(1, len(PHASES) + 1)
                for row in _phase(stage, screen, number, options.phase_seconds, check_interrupt)
            ]
            if options.keep:
                _keep(stage, screen, interrupted)
            accounting = stage.end()
        except (DemoError, redis.RedisError) as error:
            raise stage.cause_of(error) from error
        wall, own_seconds = time.monotonic() - stage_began, time.process_time() - own_seconds
        warnings = [warning for child in stage.children for warning in child.warnings()]
    deviations = faults(rows, accounting)
    load = _load(stage, wall, own_seconds, time.monotonic() - began)
    screen.summary(rows, [*(warnings if deviations else []), load, *_sentences(rows, deviations)])
    if options.annotate:
        _write(options.annotate, stage)
    return deviations


def programs_hint() -> str:
    """Returns how to find fpsctl and grpcurl in another terminal; empty if PATH has them, or without a virtual environment."""
    activate = Path(sys.prefix, "bin", "activate")
    if shutil.which("fpsctl") or not activate.is_file():
        return ""
    return f"          (in another terminal, first: source {activate})"


def _keep(stage: Stage, screen: Screen, interrupted: threading.Event) -> None:
    """Lets everything go on until a signal, and says what may be tried."""
    prefix = f"redis-cli -u {mask_password(stage.redis_url)} HSET {stage.config_key}"
    for line in (
        "it goes on until Ctrl-C. Change a limit and see the picture slow down:",
        f"    in the page   {stage.console}#/camera/cam1",
        f"    by fpsctl     fpsctl set cam1 0.5 --redis-url {mask_password(stage.redis_url)} --config-key {stage.config_key}",
        f"    in Redis      {prefix} cam1 0.25",
    ):
        screen.line(line)
    if any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin":
        webbrowser.open(stage.console)
    while not interrupted.wait(_REFRESH_S):
        stage.check()
        stage.read_results()
    interrupted.clear()  # the summary still comes


def _phase(stage: Stage, screen: Screen, number: int, seconds: float, check_interrupt: Callable[[], None]) -> list[Row]:
    """Changes the limits, waits for the length of the phase, and returns the outcome of each stream."""
    phase, limits = PHASES[number - 1], _limits(number)
    screen.phase(number, len(PHASES), phase.title, phase.commands(stage.config_key))
    changed = time.monotonic()
    stage.change(phase)
    if number == 1:
        stage.publish(CAMERAS)
    start = stage.wait_in_force({name: limit.fps for name, limit in limits.items()})
    if number > 1:
        screen.line(f"    in force after {(time.monotonic() - changed) * 1000:.0f} ms")
    end = start + seconds
    while (now := time.time()) < end:
        stage.check()
        check_interrupt()
        stage.read_results()
        screen.progress(_rows(stage, number, limits, start, now), end - now)
        time.sleep(min(_REFRESH_S, end - now))
    stage.wait_until_settled(end)
    rows = _rows(stage, number, limits, start, end)
    screen.phase_done(rows)
    return rows


def _limits(number: int) -> dict[str, Limit]:
    fields = after(PHASES[:number])
    return {camera.stream_name: limit_of(camera.stream_name, fields) for camera in CAMERAS}


def _rows(stage: Stage, number: int, limits: Mapping[str, Limit], start: float, end: float) -> list[Row]:
    return [ledger.row(number, limits[ledger.camera.stream_name], start, end) for ledger in stage.ledgers]


def _write(path: Path, stage: Stage) -> None:
    picture = annotated_frame(stage.ledgers)
    try:
        if picture is not None and not cv2.imwrite(str(path), picture):
            raise DemoError(f"can't write {path}")
    except cv2.error as error:
        raise DemoError(f"can't write {path}: its name must end in .jpg or .png") from error


def _load(stage: Stage, wall: float, own_seconds: float, total: float) -> str:
    """Returns a line about the time and the cores that the demo used."""
    parts = [
        f"cameras {own_seconds / wall:.2f}",
        *(f"{child.name} {child.cpu_seconds / wall:.2f}" for child in stage.children),
    ]
    return f"took {total:.0f} s; cores used on average: {', '.join(parts)}"


def _sentences(rows: Sequence[Row], deviations: Sequence[str]) -> list[str]:
    counted, right = sum(row.counted for row in rows), sum(row.right for row in rows)
    if deviations:
        return [f"NOT as configured: {deviation}" for deviation in deviations]
    return [
        f"as configured: every rate within 5 % or 2 frames, by the frames' own clock; "
        f"the number of hands was right in {right} of {counted} frames"
    ]
