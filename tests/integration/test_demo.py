"""``hand-counter demo`` as users run it."""

from pathlib import Path

import cv2
import pytest
from support.processes.demos import whole_demo


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.measured
def test_the_demo_does_what_it_promises(tmp_path: Path) -> None:
    """It ends with the table and exit code 0, writes an annotated frame on request, and leaves nothing else behind."""
    folder, picture = tmp_path / "demo", tmp_path / "frame.png"
    folder.mkdir()
    with whole_demo(folder, "--phase-seconds", "2", "--annotate", str(picture)) as demo:
        demo.until_it_says("phase 1 of 5")
        children = demo.children()
        assert set(children) == {"valkey-server", "sidecar", "worker", "console.web"}
        assert demo.wait() == 0, demo.said
    for words in (
        "HSET stream_fps_configs 'cam2' 4",
        "HDEL stream_fps_configs '*'",
        "undecoded",
        "cores used on average",
        "look at it: http://127.0.0.1:",
    ):
        assert words in demo.said
    assert "as configured: every rate within" in demo.said
    assert "\x1b" not in demo.said
    assert demo.has_left(children) == []
    assert cv2.imread(str(picture)).shape == (480, 640, 3)
