"""The real models, fetched once into the user's cache as the commands do it."""

import sys

import pytest

from worker.hands.detector import PalmLandmarkDetector
from worker.hands.models import default_models_dir, ensure_models
from worker.hands.progress import download_progress


@pytest.fixture(scope="session")
def models():
    """The paths of the checked models."""
    with download_progress(sys.stderr) as progress:
        return ensure_models(default_models_dir(), progress)


@pytest.fixture(scope="session")
def detector(models):
    """The detector at its default settings."""
    return PalmLandmarkDetector(models)
