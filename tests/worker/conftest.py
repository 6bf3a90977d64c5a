"""A Valkey for the tests of the queue, and the real hand models."""

import sys

import pytest
from support.queue_fixtures import valkey, valkey_process  # noqa: F401 (fixtures)

from worker.download import download_progress
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, ModelPaths, default_models_dir, ensure_models


@pytest.fixture(scope="session")
def models() -> ModelPaths:
    """The real hand models, downloaded once into the user's cache as the commands do it."""
    with download_progress(sys.stderr, TITLE) as progress:
        return ensure_models(default_models_dir(), progress)


@pytest.fixture(scope="session")
def litert(models: ModelPaths) -> LiteRtEngine:
    """An engine that the detectors share: each network is loaded once."""
    return LiteRtEngine(models)


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
