"""``hand-counter demo``, run in this process; its own processes are real ones."""

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from support.processes.programs import repository_environment
from support.redis.valkey import valkey
from support.waiting import wait_until

from worker import __main__ as cli
from worker.demo import command
from worker.demo.command import programs_hint, run_demo
from worker.demo.options import DemoOptions
from worker.demo.stage import Stage
from worker.download import Progress
from worker.hands.effort import Effort
from worker.hands.models import ModelError

OPTIONS = DemoOptions(redis_url=None, phase_seconds=2.0, effort=Effort.FAST, seed=1, models_dir=None, annotate=None)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One phase, slow cameras, and child processes that import this tree."""
    monkeypatch.setattr(command, "PHASES", command.PHASES[:1])
    monkeypatch.setattr(command, "CAMERAS", tuple(replace(camera, fps=8.0) for camera in command.CAMERAS))
    monkeypatch.setattr(cv2, "setNumThreads", lambda _: None)
    monkeypatch.setenv("PYTHONPATH", repository_environment()["PYTHONPATH"])


def test_another_terminal_finds_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the virtual environment isn't active, the demo says what activates it."""
    activate, fpsctl = tmp_path / "bin/activate", tmp_path / "bin/fpsctl"
    fpsctl.parent.mkdir()
    fpsctl.touch(0o755)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert programs_hint() == ""  # installed without a virtual environment
    activate.touch()
    assert f"source {activate}" in programs_hint()
    monkeypatch.setenv("PATH", str(fpsctl.parent))
    assert programs_hint() == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("forked_programs")
def test_a_limit_changed_by_somebody_else_fails_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a user's own Redis it fails if a limit is changed from outside, and deletes nothing but its own keys."""
    picture = tmp_path / "frame.png"
    with valkey() as server, server.client() as client:
        client.hset("stream_fps_configs", "cam1", "7")
        wait_in_force = Stage.wait_in_force

        def change_afterwards(stage: Stage, limits: Mapping[str, float]) -> float:
            """Waits for the limits of the phase, changes one of them, and waits until that is in force."""
            wait_in_force(stage, limits)
            client.hset(stage.config_key, "cam2", "0.1")
            return wait_in_force(stage, {**limits, "cam2": 0.1})

        monkeypatch.setattr(Stage, "wait_in_force", change_afterwards)
        code = run_demo(replace(OPTIONS, redis_url=server.url, annotate=picture))
        output = capsys.readouterr().out
        assert code == 1, output
        assert "NOT as configured: cam2 in phase 1" in output
        assert list(client.scan_iter("*")) == ["stream_fps_configs"]
        assert client.hgetall("stream_fps_configs") == {"cam1": "7"}
    assert cv2.imread(str(picture)).shape == (480, 640, 3)


def test_a_redis_that_cannot_be_used_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is exit code 1; the line says why, and what to do."""
    monkeypatch.setattr("worker.demo.stage._DEATH_S", 0.05)  # no process of the demo's own is the cause
    with valkey("--requirepass", "secret") as server:
        for url, what, hint in (
            ("redis://127.0.0.1:1/0", "Redis is unreachable", "check --redis-url"),
            (server.url, "Redis demands a password", "--redis-password-file"),
            (server.url.replace("//", "//:wrong@"), "Redis rejected the user or the password", "check the user"),
        ):
            assert run_demo(replace(OPTIONS, redis_url=url)) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"hand-counter demo: {what}")
            assert hint in line


def interrupt(_: Path, progress: Progress) -> None:
    """Interrupts the demo while it downloads the models."""
    os.kill(os.getpid(), signal.SIGINT)
    wait_until(lambda: progress(0, 1), "the interrupt")


def fail(_: Path, __: Progress) -> None:
    """Finds a wrong model."""
    raise ModelError("palm.tflite isn't the expected model")


@pytest.mark.parametrize(
    ("ensure_models", "message"), [(interrupt, "interrupted"), (fail, "palm.tflite isn't the expected model")]
)
def test_it_may_end_before_it_starts_anything(
    ensure_models: Callable[[Path, Progress], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interrupt during the download of the models, or a wrong model, is exit code 1 and one line."""
    monkeypatch.setattr(command, "ensure_models", ensure_models)
    assert run_demo(OPTIONS) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"hand-counter demo: {message}"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--redis-url", "localhost"], "a Redis URL begins with redis://"),
        (["--phase-seconds", "1"], "--phase-seconds"),
        (["--effort", "none"], "--effort"),
    ],
)
def test_wrong_values_are_one_clear_line(flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong value is exit code 2; the line names the flag or the reason."""
    with pytest.raises(SystemExit) as exited:
        cli.main(["demo", *flags])
    assert exited.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_flags_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gets its flags as one value."""
    passed = []
    monkeypatch.setattr(command, "run_demo", lambda options: passed.append(options) or 0)
    assert cli.main(["demo", "--effort", "balanced", "--seed", "7", "--annotate", "frame.png"]) == 0
    assert passed == [replace(OPTIONS, phase_seconds=8.0, effort=Effort.BALANCED, seed=7, annotate=Path("frame.png"))]
