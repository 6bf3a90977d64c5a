"""``hand-counter demo`` as its users run it, with short phases."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from support.processes.programs import repository_environment
from support.redis.valkey import valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Demo:
    """A demo that runs."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "demo", "--phase-seconds", "2", *flags],
                stdout=said,
                stderr=subprocess.STDOUT,
                env=repository_environment({"TMPDIR": str(folder)}),
            )
        self.folder = folder

    @property
    def said(self) -> str:
        """All that it has written."""
        return self._said.read_text()

    def children(self) -> dict[str, int]:
        """The process ids of its children by their names."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                command = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended meanwhile
            if parent == self.process.pid:
                name = command[0].split()[0] if b"valkey" in command[0] else command[2]  # a title, or python -m name
                found[os.fsdecode(name).rpartition("/")[2]] = int(path.name)
        return found

    def until_it_says(self, words: str) -> None:
        """Waits for some words."""
        wait_until(lambda: words in self.said or self.process.poll() is not None, 240.0)
        assert words in self.said, self.said

    def ends(self) -> int:
        """Waits for its end; gives the exit code."""
        return self.process.wait(600.0)

    def nothing_is_left(self, children: dict[str, int]) -> bool:
        """Whether its children and its folder are gone."""
        return not any(Path(f"/proc/{pid}").exists() for pid in children.values()) and [
            path.name for path in self.folder.iterdir()
        ] == ["said"]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos."""
    demos = []

    def start(*flags: str) -> Demo:
        (tmp_path / "demo").mkdir()
        demos.append(Demo(tmp_path / "demo", *flags))
        return demos[-1]

    yield start
    for each in demos:
        if each.process.poll() is None:
            each.process.terminate()
            each.process.wait(240.0)


def test_the_demo_does_what_it_promises(demo: Callable[..., Demo], tmp_path: Path) -> None:
    """It ends with the table and exit code 0, leaves an annotated frame where asked to, and nothing else."""
    run = demo("--annotate", str(tmp_path / "frame.png"))
    run.until_it_says("phase 1 of 5")
    children = run.children()
    assert set(children) == {"valkey-server", "sidecar", "worker"}
    assert run.ends() == 0, run.said
    for words in (
        "HSET stream_fps_configs 'cam2' 4",
        "HDEL stream_fps_configs '*'",
        "undecoded",
        "cores used on average",
    ):
        assert words in run.said
    assert "as configured: every rate within" in run.said
    assert "\x1b" not in run.said
    assert run.nothing_is_left(children)
    assert cv2.imread(str(tmp_path / "frame.png")).shape == (480, 640, 3)


def test_a_limit_that_was_meddled_with_fails_the_demo(demo: Callable[..., Demo]) -> None:
    """On a Redis of one's own it fails where another hand changes a limit, and leaves only what was there before."""
    with valkey() as server, server.client() as client:
        client.hset("stream_fps_configs", "cam1", "7")
        run = demo("--redis-url", server.url, "--phase-seconds", "8")  # the other hand needs a while
        run.until_it_says("phase 1 of 5")
        # By then the limits are in force, which the demo waits for.
        wait_until(lambda: any(client.xlen(key) > 5 for key in client.scan_iter("*demo_*:counts")), 240.0)
        (config_key,) = client.scan_iter("stream_fps_configs:demo_*")
        client.hset(config_key, "cam2", "0.1")
        assert run.ends() == 1, run.said
        assert "NOT as configured: cam2 in phase 1" in run.said
        assert list(client.scan_iter("*")) == ["stream_fps_configs"]
        assert client.hgetall("stream_fps_configs") == {"cam1": "7"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything(demo: Callable[..., Demo], number: int) -> None:
    """Interrupted in the middle, it stops what it started, says so and fails; even if told twice."""
    run = demo()
    run.until_it_says("phase 1 of 5")
    children = run.children()
    assert len(children) == 3
    run.process.send_signal(number)
    wait_until(lambda: not all(Path(f"/proc/{pid}").exists() for pid in children.values()))
    run.process.send_signal(number)
    assert run.ends() == 1
    assert run.said.rstrip().endswith("hand-counter demo: interrupted")
    assert "Traceback" not in run.said
    assert run.nothing_is_left(children)


@pytest.mark.parametrize("name", ["valkey-server", "sidecar", "worker"])
def test_the_death_of_a_process_ends_the_demo(demo: Callable[..., Demo], name: str) -> None:
    """Where one of its processes dies, it names that and shows its last words, stops the others and fails."""
    run = demo()
    run.until_it_says("phase 1 of 5")
    children = run.children()
    os.kill(children[name], signal.SIGKILL)
    assert run.ends() == 1
    assert f"hand-counter demo: {name.removesuffix('-server')} has ended with exit code -9" in run.said
    assert f"\n  {name.removesuffix('-server')}: " in run.said
    assert "Traceback" not in run.said
    assert run.nothing_is_left(children)


@pytest.mark.parametrize(
    ("flags", "code", "complaint"),
    [
        (["--redis-url", "redis://127.0.0.1:1/0"], 1, "no Redis at --redis-url"),
        (["--redis-url", "localhost"], 2, "a Redis URL begins with redis://"),
        (["--phase-seconds", "1"], 2, "--phase-seconds"),
        (["--tiles", "none"], 2, "--tiles"),
    ],
)
def test_what_is_wrong_is_said(demo: Callable[..., Demo], flags: list[str], code: int, complaint: str) -> None:
    """A Redis that isn't there is exit code 1, a wrong value 2; one line says what is wrong."""
    run = demo(*flags)
    assert run.ends() == code
    assert complaint in run.said.strip().splitlines()[-1]
    assert "Traceback" not in run.said
