"""The real models, fetched once into the user's cache as the commands do it."""

import pytest

from worker.hands.detector import PalmLandmarkDetector
from worker.hands.models import default_models_dir, ensure_models


@pytest.fixture(scope="session")
def models():
    """The paths of the checked models."""
    return ensure_models(default_models_dir(), progress=lambda done, total: None)


@pytest.fixture(scope="session")
def detector(models):
    """The detector at its default settings."""
    return PalmLandmarkDetector(models)
