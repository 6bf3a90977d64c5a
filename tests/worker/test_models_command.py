"""``hand-counter models fetch``."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import pytest
from support.processes import programs

from worker import models_command
from worker.hamer.fetch import FetchError
from worker.hands.models import ModelError, ModelPaths
from worker.models_command import run_models_fetch


def test_it_prints_where_the_models_are(models: ModelPaths, capsys: pytest.CaptureFixture[str]) -> None:
    """The four files are printed; by default they are in the user's cache."""
    assert run_models_fetch() == 0
    assert capsys.readouterr().out.splitlines() == [str(path) for path in astuple(models)]


@pytest.mark.parametrize("terminal", [False, True])
def test_hamers_weights(
    terminal: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --hamer the weights are fetched, consent is asked for on a terminal only, and the checkpoint is printed."""
    calls = []

    def fetch(folder: Path, **options: object) -> Path:
        calls.append((folder, options["accept_licence"], options["ask"]))
        return folder / "hamer.ckpt"

    monkeypatch.setattr(models_command, "fetch_hamer", fetch)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
    assert run_models_fetch(tmp_path, hamer=True, accept_licence=True) == 0
    ((folder, accepted, ask),) = calls
    assert (folder, accepted, ask is not None) == (tmp_path, True, terminal)
    assert capsys.readouterr().out == f"{tmp_path}/hamer.ckpt\n"


@pytest.mark.parametrize(
    ("hamer", "function", "error"),
    [(False, "fetch_models", ModelError("no network")), (True, "fetch_hamer", FetchError("no consent"))],
)
def test_an_error_is_one_line(
    hamer: bool,
    function: str,
    error: Exception,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure is exit code 1 and one line on standard error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(models_command, function, fail)
    assert run_models_fetch(tmp_path, hamer=hamer) == 1
    assert capsys.readouterr() == ("", f"hand-counter: {error}\n")


def unread_pipe() -> int:
    """Returns an end of a pipe whose other end is closed."""
    other, end = os.pipe()
    os.close(other)
    return end


@pytest.mark.parametrize(
    ("open_output", "problem"),
    [(unread_pipe, "Broken pipe"), (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device")],
)
def test_standard_output_that_fails(
    models: ModelPaths, tmp_path: Path, open_output: Callable[[], int], problem: str
) -> None:
    """The models are in place, the reason is one line, and the exit code says that something failed."""
    output = open_output()
    with (tmp_path / "error").open("w+") as error:
        folder = str(models.palm.parent)
        process = programs.start(
            "worker", "models", "fetch", "--models-dir", folder, output=output, error=error.fileno(), fresh=True
        )
        os.close(output)
        assert process.wait(programs.START_DEADLINE_S) == 1
        error.seek(0)
        assert error.read() == failed(models, problem)


def failed(models: ModelPaths, problem: str) -> str:
    """Returns what is said if the models are in place and can't be printed."""
    return f"hand-counter: the models are in {models.palm.parent}, but standard output failed: {problem}\n"


def run_with(models: ModelPaths, words: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command in a shell, with flags and redirections appended."""
    script = f'"$PYTHON" -m worker models fetch --models-dir "$MODELS" {words}'
    variables = {"PYTHON": sys.executable, "MODELS": str(models.palm.parent)}
    environment = programs.repository_environment(variables)
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120)


def test_standard_output_that_is_closed(models: ModelPaths) -> None:
    """It fails as any other."""
    done = run_with(models, ">&-")
    assert (done.returncode, done.stderr) == (1, failed(models, "it is closed"))


@pytest.mark.parametrize(
    ("flags", "descriptors", "code"),
    [("", "2>&-", 0), ("--hamer", "<&-", 1), ("", "<&- >&- 2>&-", 1), ("--hamer", "<&- >&- 2>&-", 1)],
)
def test_closed_descriptors(models: ModelPaths, flags: str, descriptors: str, code: int) -> None:
    """Whatever is closed, there is no traceback, not even where consent is asked for."""
    done = run_with(models, f"{flags} {descriptors}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_end_of_the_input_is_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D at the question is no answer."""

    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    assert models_command._ask("Do you agree?") == ""
