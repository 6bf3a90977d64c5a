"""The demo's own programs as forks."""

import pytest
from support.processes.demo_children import forking


@pytest.fixture
def forked_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the demo starts by ``python -m`` is a fork. tests/integration/test_demo.py has their starts."""
    monkeypatch.setattr("worker.demo.processes.subprocess", forking())
