"""The table of backends: which one is opened, and what is missing."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.models.fake_detector import FakeDetector

from worker import backend
from worker.backend import AUTO, Backend, BackendError, Row, backend_error, names, open_backend
from worker.hands.effort import Effort
from worker.hands.models import ModelError, ModelPaths
from worker.hands_settings import HandsSettings
from worker.options import HandsOptions

CHECKPOINT = Path("hamer.ckpt")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the backends that were opened; all of the table are replaced by fakes."""
    opened: list[str] = []

    def fake(name: str) -> Row:
        def open_fake(_options: HandsOptions, _on_event: object) -> Backend:
            opened.append(name)
            return Backend(name, FakeDetector, lambda image, _hands: image, lambda: None)

        return Row(open_fake, backend.BACKENDS[name].missing)

    monkeypatch.setattr(backend, "BACKENDS", {name: fake(name) for name in backend.BACKENDS})
    return opened


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (HandsOptions(), "palm"),
        (HandsOptions(hamer_checkpoint=CHECKPOINT), "hamer"),
        (HandsOptions(backend="palm", hamer_checkpoint=CHECKPOINT), "palm"),
        (HandsOptions(backend="hamer", hamer_checkpoint=CHECKPOINT), "hamer"),
    ],
)
def test_the_backend_of_the_options_is_opened(opened: list[str], options: HandsOptions, name: str) -> None:
    """`auto` is the first whose flags are given."""
    assert backend_error(options) is None
    assert open_backend(options).name == name
    assert opened == [name]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (HandsOptions(backend="hamer"), "--backend hamer needs --hamer-checkpoint FILE"),
        (HandsOptions(device="gpu"), "--device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        (HandsOptions(device="cuda:-1"), "--device must be auto, cpu, cuda or cuda:N, got 'cuda:-1'"),
        (HandsOptions(backend="other"), "--backend must be one of auto, hamer, palm, got 'other'"),
    ],
)
def test_what_cannot_be_opened_is_an_error(opened: list[str], options: HandsOptions, error: str) -> None:
    """It names the flag, and nothing is loaded."""
    assert backend_error(options) == error
    with pytest.raises(BackendError, match=error):
        open_backend(options)
    assert opened == []


def test_the_choice_of_auto_is_logged(opened: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """With the flags that would have changed it; a backend that was asked for by name isn't a choice."""
    with caplog.at_level(logging.INFO):
        open_backend(HandsOptions())
        open_backend(HandsOptions(hamer_checkpoint=CHECKPOINT))
        open_backend(HandsOptions(backend="palm"))
    assert [(record.backend, record.not_configured) for record in caplog.records] == [
        ("palm", ["hamer needs --hamer-checkpoint FILE"]),
        ("hamer", []),
    ]


def test_a_new_model_is_one_row(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag, its check and the opening follow from the table."""
    row = Row(
        lambda _options, _on_event: Backend("mine", FakeDetector, lambda image, _: image, lambda: None), lambda _: None
    )
    monkeypatch.setattr(backend, "BACKENDS", {**backend.BACKENDS, "mine": row})
    assert names() == (AUTO, "hamer", "palm", "mine")
    settings = HandsSettings(backend="mine")
    assert open_backend(settings.hands_options).make_detector().name == "fake"


def test_missing_models_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the text that says what to do."""

    def ensure(folder: Path, _progress: object) -> None:
        raise ModelError(f"{folder} has no models")

    monkeypatch.setattr("worker.hands.models.ensure_models", ensure)
    for options in (HandsOptions(models_dir=tmp_path), HandsOptions(models_dir=tmp_path, hamer_checkpoint=CHECKPOINT)):
        with pytest.raises(BackendError, match=f"{tmp_path} has no models"):
            open_backend(options)


def test_the_palm_detector_gets_its_options(models: ModelPaths) -> None:
    """The real models, opened by the table."""
    options = HandsOptions(
        backend="palm", models_dir=models.palm.parent, effort=Effort.THOROUGH, min_score=0.75, num_threads=2
    )
    palm = open_backend(options)
    detector = palm.make_detector()
    assert (palm.name, detector.name, detector.engine) == ("palm", "palm-thorough", "litert")
    assert detector is not palm.make_detector()
    palm.close()
    with pytest.raises(ValueError, match="min_score"):
        open_backend(replace(options, min_score=-1)).make_detector()


def options_of(models: ModelPaths, device: str) -> HandsOptions:
    """Returns options of the palm backend."""
    return HandsOptions(backend="palm", models_dir=models.palm.parent, effort=Effort.FAST, device=device)


@pytest.fixture
def torch_in_one_thread() -> Iterator[ModuleType]:
    """Several would wait for each other busily, longer than they compute."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


def test_a_gpu_runs_the_models_for_all_threads(
    models: ModelPaths, torch_in_one_thread: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `auto` finds one; torch's CPU stands in for it here. The engine ends with the backend."""
    cpu = torch_in_one_thread.device("cpu")
    monkeypatch.setattr(backend, "_has_driver", lambda: True)
    monkeypatch.setattr("worker.hands.device.choice.choose_gpu", lambda _name: cpu)
    palm = open_backend(options_of(models, "auto"))
    one, other = palm.make_detector(), palm.make_detector()
    assert (one.name, one.engine) == ("palm-fast", "torch-cpu")
    assert one is not other
    assert len(one.detect(np.zeros((48, 64, 3), np.uint8))) == 0
    palm.close()
    with pytest.raises(RuntimeError, match="closed"):
        other.detect(np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize("has_driver", [False, True])
def test_a_cpu_runs_them_with_litert(models: ModelPaths, monkeypatch: pytest.MonkeyPatch, has_driver: bool) -> None:
    """Without a driver torch isn't imported; with one, but without torch or without a GPU, `auto` is the CPU too."""
    monkeypatch.setattr(backend, "_has_driver", lambda: has_driver)
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it weren't installed
    for module in ("choice", "engine", "errors"):
        monkeypatch.delitem(sys.modules, f"worker.hands.device.{module}", raising=False)
    assert open_backend(options_of(models, "auto")).make_detector().engine == "litert"
    assert open_backend(options_of(models, "cpu")).make_detector().engine == "litert"


def test_a_gpu_needs_torch(models: ModelPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is asked for by name, its absence is an error that says what to install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("choice", "engine", "errors"):
        monkeypatch.delitem(sys.modules, f"worker.hands.device.{module}", raising=False)
    with pytest.raises(BackendError, match=r"--device cuda needs torch: pip install 'hamer-hand-counter\[gpu\]'"):
        open_backend(options_of(models, "cuda"))


def test_a_gpu_that_is_not_there(models: ModelPaths) -> None:
    """Is an error at the start."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BackendError, match="'cuda' was requested, but"):
        open_backend(options_of(models, "cuda"))
