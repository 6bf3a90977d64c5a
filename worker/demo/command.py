"""``hand-counter demo``: from the models to the verdict."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import redis

from process.address import mask_password
from worker.demo.annotate import annotated_frame
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
    """Somebody wants the demo to end."""


def run_demo(
    *,
    redis_url: str | None,
    phase_seconds: float,
    tiles: int,
    seed: int,
    models_dir: Path | None,
    annotate: Path | None,
) -> int:
    """Runs the demo; the arguments are those of DemoSettings.

    Returns:
        The exit code: 0 if everything was as configured.
    """
    cv2.setNumThreads(1)  # three cameras draw at the same time, and the worker needs the cores
    interrupted = threading.Event()

    def idle() -> None:
        if interrupted.is_set():
            raise DemoInterruptedError

    def interruptible(progress: Progress) -> Progress:
        def show(done: int, total: int | None) -> None:
            idle()
            progress(done, total)

        return show

    try:
        with (
            stop_signals(interrupted, patient=True),
            tempfile.TemporaryDirectory(prefix="hand-counter-demo-") as folder,
        ):
            models = models_dir or default_models_dir()
            with download_progress(sys.stderr, TITLE) as progress:
                ensure_models(models, interruptible(progress))
            stage = Stage(Path(folder), redis_url, tiles=tiles, seed=seed, models_dir=models, idle=idle)
            found = _perform(stage, phase_seconds, annotate, idle)
    except (DemoError, ModelError) as error:
        sys.stderr.write(f"hand-counter demo: {error}\n")
        return 1
    except DemoInterruptedError:
        sys.stderr.write("hand-counter demo: interrupted\n")
        return 1
    return 1 if found else 0


def _perform(stage: Stage, phase_seconds: float, annotate: Path | None, idle: Callable[[], None]) -> list[str]:
    """Runs all phases; gives what isn't as it should be."""
    began = time.monotonic()
    with Screen() as screen, stage:
        try:
            screen.say("starting Valkey, the sidecar and the worker ...")
            stage.start()
            screen.say(f"watch it: redis-cli -u {mask_password(stage.redis_url)} HGETALL {stage.config_key}")
            screen.say(f"          grpcurl -plaintext {stage.sidecar} {_LIST_STREAMS}")
            own_seconds, stage_began = time.process_time(), time.monotonic()
            rows = [
                row
                for number in range(1, len(PHASES) + 1)
                for row in _phase(stage, screen, number, phase_seconds, idle)
            ]
            accounting = stage.end()
        except (DemoError, redis.RedisError) as error:
            raise stage.blame(error) from error
        wall, own_seconds = time.monotonic() - stage_began, time.process_time() - own_seconds
        warnings = [warning for child in stage.children for warning in child.warnings()]
    found = faults(rows, accounting)
    load = _load(stage, wall, own_seconds, time.monotonic() - began)
    screen.summary(rows, [*(warnings if found else []), load, *_sentences(rows, found)])
    if annotate:
        _write(annotate, stage)
    return found


def _phase(stage: Stage, screen: Screen, number: int, seconds: float, idle: Callable[[], None]) -> list[Row]:
    """Changes the limits, lets so many seconds go by, and gives what was achieved in them."""
    phase, limits = PHASES[number - 1], _limits(number)
    screen.phase(number, len(PHASES), phase.title, phase.commands(stage.config_key))
    asked = time.monotonic()
    stage.change(phase)
    if number == 1:
        stage.publish(CAMERAS)
    start = stage.wait_in_force({name: limit.fps for name, limit in limits.items()})
    if number > 1:
        screen.say(f"    in force after {(time.monotonic() - asked) * 1000:.0f} ms")
    end = start + seconds
    while (now := time.time()) < end:
        stage.check()
        idle()
        stage.read_results()
        screen.progress(_rows(stage, number, limits, start, now), end - now)
        time.sleep(min(_REFRESH_S, end - now))
    stage.wait_dealt_with(end)
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
            raise DemoError(f"{path} can't be written")
    except cv2.error as error:
        raise DemoError(f"{path} can't be written: a picture's name ends in .jpg or .png") from error


def _load(stage: Stage, wall: float, own_seconds: float, total: float) -> str:
    """Says how much of the machine it took."""
    parts = [
        f"cameras {own_seconds / wall:.2f}",
        *(f"{child.name} {child.cpu_seconds / wall:.2f}" for child in stage.children),
    ]
    return f"took {total:.0f} s; cores used on average: {', '.join(parts)}"


def _sentences(rows: Sequence[Row], found: Sequence[str]) -> list[str]:
    counted, right = sum(row.counted for row in rows), sum(row.right for row in rows)
    if found:
        return [f"NOT as configured: {fault}" for fault in found]
    return [
        f"as configured: every rate within 5 % or 2 frames, by the frames' own clock; "
        f"the hands right in {right} of {counted} frames"
    ]
