"""What the tests of the console share."""

from collections.abc import Iterator

import pytest
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tests of a file."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """Its sidecar, with a default of 2 fps."""
    with sidecar_process(redis_url=server.url, fps=2) as running:
        yield running
