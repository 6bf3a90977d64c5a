"""A Valkey for the queue, as fixtures that a conftest.py imports."""

from collections.abc import Iterator

import pytest
from support.processes.workers import QueueServer


@pytest.fixture(scope="module")
def valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueServer]:
    """A Valkey for all tests of a module."""
    server = QueueServer(tmp_path_factory.mktemp("valkey"))
    yield server
    server.close()


@pytest.fixture
def valkey(valkey_process: QueueServer) -> QueueServer:
    """That Valkey, empty."""
    valkey_process.bytes.flushall()
    valkey_process.bytes.config_resetstat()
    return valkey_process
