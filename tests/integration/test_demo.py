"""``hand-counter demo`` does what it promises, and notices when something else doesn't."""

from pathlib import Path

import cv2
import pytest
from support.processes.demos import short_demo, whole_demo
from support.redis.valkey import valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the demo's temporary files."""
    (tmp_path / "demo").mkdir()
    return tmp_path / "demo"


def test_the_demo_does_what_it_promises(folder: Path, tmp_path: Path) -> None:
    """It ends with the table and exit code 0, leaves an annotated frame where asked to, and nothing else."""
    with whole_demo(folder, "--phase-seconds", "2", "--annotate", str(tmp_path / "frame.png")) as demo:
        demo.until_it_says("phase 1 of 5")
        children = demo.children()
        assert set(children) == {"valkey-server", "sidecar", "worker"}
        assert demo.wait() == 0, demo.said
    for words in (
        "HSET stream_fps_configs 'cam2' 4",
        "HDEL stream_fps_configs '*'",
        "undecoded",
        "cores used on average",
    ):
        assert words in demo.said
    assert "as configured: every rate within" in demo.said
    assert "\x1b" not in demo.said
    assert demo.has_left(children) == []
    assert cv2.imread(str(tmp_path / "frame.png")).shape == (480, 640, 3)


def test_a_limit_changed_by_somebody_else_fails_the_demo(folder: Path) -> None:
    """On a Redis of the user's own it fails if another hand changes a limit, and leaves only what was there before."""
    with valkey() as server, server.client() as client:
        client.hset("stream_fps_configs", "cam1", "7")
        # The other hand needs a while to notice that the limits are in force.
        with short_demo(folder, "--redis-url", server.url, "--phase-seconds", "8") as demo:
            demo.until_it_says("phase 1 of 1")
            wait_until(lambda: any(client.xlen(key) > 5 for key in client.scan_iter("*demo_*:counts")), "results")
            (config_key,) = client.scan_iter("stream_fps_configs:demo_*")
            client.hset(config_key, "cam2", "0.1")
            assert demo.wait() == 1, demo.said
        assert "NOT as configured: cam2 in phase 1" in demo.said
        assert list(client.scan_iter("*")) == ["stream_fps_configs"]
        assert client.hgetall("stream_fps_configs") == {"cam1": "7"}


@pytest.mark.parametrize(
    ("flags", "code", "complaint"),
    [
        (["--redis-url", "redis://127.0.0.1:1/0"], 1, "no Redis at --redis-url"),
        (["--redis-url", "localhost"], 2, "a Redis URL begins with redis://"),
        (["--phase-seconds", "1"], 2, "--phase-seconds"),
        (["--tiles", "none"], 2, "--tiles"),
    ],
)
def test_a_bad_value_is_one_clear_line(folder: Path, flags: list[str], code: int, complaint: str) -> None:
    """An unreachable Redis is exit code 1, a wrong value 2; the last line names the fault."""
    with whole_demo(folder, *flags) as demo:
        assert demo.wait() == code
    assert complaint in demo.said.strip().splitlines()[-1]
    assert "Traceback" not in demo.said
