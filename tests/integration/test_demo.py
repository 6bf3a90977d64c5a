"""``hand-counter demo``: some of its phases, the console that stays, and how it ends. ``make demo`` runs all phases."""

import json
import re
import signal
import urllib.request
from pathlib import Path

import cv2
import pytest
from support.processes.demos import LONG, short_demo
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.measured
def test_the_demo_does_what_it_promises(tmp_path: Path) -> None:
    """It changes limits, serves the console until a signal, then shows the table; exit code 0; it leaves the picture alone."""
    folder, picture = tmp_path / "demo", tmp_path / "frame.png"
    folder.mkdir()
    with short_demo(folder, "1,3", "--phase-seconds", "2", "--keep", "--annotate", str(picture)) as demo:
        demo.until_it_says("it goes on until Ctrl-C")
        children = demo.children()
        assert set(children) == {"valkey-server", "sidecar", "worker", "console.web"}
        (port,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/", demo.said))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/session") as answer:
            assert json.load(answer)["role"] == "operator"  # so a limit can be changed there
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0, demo.said
    for words in (
        "HSET stream_fps_configs 'cam2' 4",
        "HDEL stream_fps_configs 'cam2'",
        "undecoded",
        "cores used on average",
        "look at it: http://127.0.0.1:",
    ):
        assert words in demo.said
    assert "as configured: every rate within" in demo.said
    assert "\x1b" not in demo.said
    assert demo.has_left(children) == []
    assert cv2.imread(str(picture)).shape == (480, 640, 3)


def test_a_signal_ends_everything(tmp_path: Path) -> None:
    """An interrupted demo stops what it started, says so and fails; a second signal changes nothing."""
    with short_demo(tmp_path, "1", *LONG) as demo:
        demo.until_it_says("phase 1 of 1")
        children = demo.children()
        assert len(children) == 4
        demo.signal(signal.SIGTERM)
        wait_until(lambda: not all(Path(f"/proc/{pid}").exists() for pid in children.values()), "a child ends")
        demo.signal(signal.SIGINT)
        assert demo.wait() == 1
    assert demo.said.rstrip().endswith("hand-counter demo: interrupted")
    assert "Traceback" not in demo.said
    assert demo.has_left(children) == []
