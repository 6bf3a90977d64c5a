"""``hand-counter models fetch``."""

import io
import sys
from dataclasses import astuple
from pathlib import Path

import pytest

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
    assert calls == [(tmp_path, True, input if terminal else None)]
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
