"""The table of backends: which one is opened, and what is missing."""

import logging
from dataclasses import replace
from pathlib import Path

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
    assert (palm.name, detector.name) == ("palm", "palm-thorough")
    assert detector is not palm.make_detector()
    palm.close()
    with pytest.raises(ValueError, match="min_score"):
        open_backend(replace(options, min_score=-1)).make_detector()
