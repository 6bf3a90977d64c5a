"""A Valkey for the tests of the queue, and the real hand models."""

import sys
from collections.abc import Iterator

import pytest
from support.models.remembering_engine import RememberingEngine
from support.queue_fixtures import valkey, valkey_process  # noqa: F401 (fixtures)

from worker.download import download_progress
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, ModelPaths, default_models_dir, ensure_models


@pytest.fixture(scope="session", autouse=True)
def _the_c_library_keeps_its_settings() -> Iterator[None]:
    """A publisher's would hold for all later tests in this process, where each large array would cost page faults anew."""
    with pytest.MonkeyPatch.context() as patch:
        for command in ("command", "ingest_command"):
            patch.setattr(f"worker.publish.{command}.use_little_memory", lambda: None)
        yield


@pytest.fixture(scope="session")
def models() -> ModelPaths:
    """The real hand models, downloaded once into the user's cache as the commands do it."""
    with download_progress(sys.stderr, TITLE) as progress:
        return ensure_models(default_models_dir(), progress)


@pytest.fixture(scope="session")
def litert(models: ModelPaths) -> LiteRtEngine:
    """An engine that the detectors share: each network is loaded once, and examines each input once."""
    return RememberingEngine(models)


@pytest.fixture(scope="session")
def detector(litert: LiteRtEngine) -> PalmLandmarkDetector:
    """The detector at its default settings."""
    return PalmLandmarkDetector(litert)


@pytest.fixture(scope="session")
def fast_detector(litert: LiteRtEngine) -> PalmLandmarkDetector:
    """The detector at the effort `fast`, as the demo's worker has it."""
    return PalmLandmarkDetector(litert, effort=Effort.FAST)


@pytest.fixture(scope="session")
def thorough_detector(litert: LiteRtEngine) -> PalmLandmarkDetector:
    """The detector at the effort `thorough`."""
    return PalmLandmarkDetector(litert, effort=Effort.THOROUGH)
