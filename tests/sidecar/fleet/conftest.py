"""A clock, and the store of a fleet."""

import pytest
from support.models.fleet_model import Clock, Redis


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis(clock) -> Redis:
    return Redis(clock)
