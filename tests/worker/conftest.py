"""A Valkey for the tests of the queue."""

from collections.abc import Iterator

import pytest
from worker_helpers import Valkey


@pytest.fixture(scope="module")
def valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey for all tests of a module."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.close()


@pytest.fixture
def valkey(valkey_process: Valkey) -> Valkey:
    """That Valkey, empty."""
    valkey_process.client.flushall()
    valkey_process.client.config_resetstat()
    return valkey_process
