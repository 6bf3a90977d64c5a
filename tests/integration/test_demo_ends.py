"""``hand-counter demo`` ends early: interrupted by the user, or because one of its processes died."""

import json
import os
import re
import signal
import urllib.request
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
    assert len(children) == 4
    demo.signal(number)
    wait_until(lambda: not all(Path(f"/proc/{pid}").exists() for pid in children.values()), "a child ends")
    demo.signal(number)
    assert demo.wait() == 1
    assert demo.said.rstrip().endswith("hand-counter demo: interrupted")
    assert "Traceback" not in demo.said
    assert demo.has_left(children) == []


@pytest.mark.parametrize("name", ["valkey-server", "sidecar", "worker", "console.web"])
def test_the_death_of_a_process_ends_the_demo(demo: Demo, name: str) -> None:
    """It names the process that died, shows the end of its output, stops the others and fails."""
    children = demo.children()
    os.kill(children[name], signal.SIGKILL)
    assert demo.wait() == 1
    program = name.removesuffix("-server").removesuffix(".web")
    assert f"hand-counter demo: {program} has ended with exit code -9" in demo.said
    assert f"\n  {program}: " in demo.said
    assert "Traceback" not in demo.said
    assert demo.has_left(children) == []


def test_with_keep_it_goes_on_until_a_signal_and_then_ends_with_the_summary(tmp_path: Path) -> None:
    """The console serves meanwhile, and a limit can be changed there."""
    with short_demo(tmp_path, "--phase-seconds", "2", "--keep") as demo:
        demo.until_it_says("it goes on until Ctrl-C")
        (port,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/", demo.said))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/session") as answer:
            assert json.load(answer)["role"] == "operator"
        children = demo.children()
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0, demo.said
    assert "cores used on average" in demo.said
    assert demo.has_left(children) == []
