"""``hand-counter demo`` ends early: interrupted by the user, or because one of its processes died."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.demos import LONG, Demo, short_demo
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Yields a demo in the middle of a long phase."""
    with short_demo(tmp_path, *LONG) as running:
        running.until_it_says("phase 1 of 1")
        yield running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(demo: Demo, number: signal.Signals) -> None:
    """An interrupted demo stops what it started, says so and fails; a second signal changes nothing."""
    children = demo.children()
    assert len(children) == 3
    demo.signal(number)
    wait_until(lambda: not all(Path(f"/proc/{pid}").exists() for pid in children.values()), "a child ends")
    demo.signal(number)
    assert demo.wait() == 1
    assert demo.said.rstrip().endswith("hand-counter demo: interrupted")
    assert "Traceback" not in demo.said
    assert demo.has_left(children) == []


@pytest.mark.parametrize("name", ["valkey-server", "sidecar", "worker"])
def test_the_death_of_a_process_ends_the_demo(demo: Demo, name: str) -> None:
    """It names the process that died, shows the end of its output, stops the others and fails."""
    children = demo.children()
    os.kill(children[name], signal.SIGKILL)
    assert demo.wait() == 1
    assert f"hand-counter demo: {name.removesuffix('-server')} has ended with exit code -9" in demo.said
    assert f"\n  {name.removesuffix('-server')}: " in demo.said
    assert "Traceback" not in demo.said
    assert demo.has_left(children) == []
