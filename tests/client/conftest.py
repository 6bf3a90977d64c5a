"""A fake sidecar and its client."""

from collections import Counter
from collections.abc import Iterator

import pytest
from support.clients.rate_limiters import OddSidecar, client_of

from handcounter.client import RateLimiter


@pytest.fixture(params=["sessions", "batches"])
def sidecar(request: pytest.FixtureRequest) -> Iterator[OddSidecar]:
    """A running sidecar, with sessions and without."""
    with OddSidecar(sessions=request.param == "sessions") as server:
        yield server


@pytest.fixture
def decided() -> Counter[str]:
    """How many frames were decided by whom."""
    return Counter()


@pytest.fixture
def limiter(sidecar: OddSidecar, decided: Counter[str]) -> Iterator[RateLimiter]:
    """Its client."""
    with client_of(sidecar, decided) as limiter:
        yield limiter
