"""The commands of docs/how-to.md work, with a real server and a real sidecar."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.processes import programs
from support.processes.ports import free_port
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.publishing import h264
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from console.fpsctl.__main__ import main
from handcounter.client import RateLimiter

PAGE = (programs.REPOSITORY / "docs/how-to.md").read_text()
BLOCK = re.compile(
    r"(?:<!-- (?:not run: (?P<why>[^>]+)|(?P<on>goes on)) -->\n)?^```sh\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
LIMITS = "stream_fps_configs"
STREAMS = {"cam1": "2", "cam2": "", "floor1-door": "1"}
"""The streams that workers have seen, and their limits."""
FOUND = 3
"""Exit code of a check that found something."""

CAMERAS = """\
cameras:
  - {name: door, source: 'rtsp://door.cameras.example.com/stream'}
"""
DOCUMENT = """\
limits: {cam1: 3}
patterns: {'floor1-*': 2}
"""


class Task(NamedTuple):
    """A section of the page."""

    title: str
    commands: list[tuple[str, bool]]
    """The lines to run, and whether their programs go on until a signal."""
    blocks: int
    text: str


def tasks() -> list[Task]:
    """Returns all sections."""
    found = []
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
        blocks = list(BLOCK.finditer(text))
        run = [
            (line, block["on"] is not None and line.startswith(("hand-counter", "fps-sidecar")))
            for block in blocks
            if block["why"] is None
            for line in block["text"].replace("\\\n", " ").splitlines()
        ]
        found.append(Task(title, run, len(blocks), text))
    return found


TASKS = tasks()

AFTERWARDS: dict[str, dict[str, str]] = {
    "Set the limit of a camera": {"cam1": "0.25", "floor1-door": "1"},
    "Lift a limit": {"floor1-door": "1"},
    "Pause a camera, and end the pause": {"cam1": "2", "floor1-door": "1"},
    "Pause all cameras": {"cam1": "0", "cam2": "0", "floor1-door": "0", "*": "0"},
    "One limit for many cameras": {"cam1": "2", "floor1-door": "2"},
    "One limit for all others": {"cam1": "2", "floor1-door": "1", "*": "1"},
    "Take a change back": {"cam1": "2", "floor1-door": "1"},
    "Save all limits, and restore them": {"cam1": "2", "floor1-door": "1"},
    "Remove a camera": {"floor1-door": "1"},
}
"""The limits after a task."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tasks."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """A sidecar that has decided about two streams."""
    with sidecar_process(redis_url=server.url, fps=1) as running:
        with RateLimiter(running.address, default_fps=1.0) as limiter:
            limiter.decide([("cam1", 1.0), ("cam2", 1.0)])
        yield running


class Shell:
    """Runs the lines of a task: simple commands, of which some write to a file."""

    def __init__(self, server: Valkey, sidecar: SidecarProcess, folder: Path) -> None:
        self._server, self._sidecar, self._folder = server, sidecar, folder
        places = {"REDIS_URL": server.url, "SIDECAR": sidecar.address}
        self._environment = {f"{who}_{name}": value for who in ("WORKER", "CONSOLE") for name, value in places.items()}
        self._environment |= {"SIDECAR_REDIS_URL": server.url, "SIDECAR_LISTEN": f"127.0.0.1:{free_port()}"}
        self._environment |= {"SIDECAR_HTTP": "none", "WORKER_HTTP": "none"}

    def run(self, line: str) -> int:
        """Runs one line, and returns its exit code."""
        words = self._words(line)
        if not words:
            return 0
        target = None
        if ">" in words:
            words, (target,) = words[: words.index(">")], words[words.index(">") + 1 :]
        code, printed = getattr(self, words[0].replace("-", "_"))(*words[1:])
        if target is not None:
            (self._folder / target).write_text(printed)
            assert printed, line
        return int(code)

    def go_on(self, line: str) -> int:
        """Starts a program, ends it once it has said that it works, and returns its exit code."""
        name, *words = self._words(line)
        module, flags, sign = {
            "fps-sidecar": ("sidecar", words, "serving"),
            "hand-counter console": ("console.web", words[1:], "the console is served"),
            "hand-counter publish": ("worker", words, "publishing"),
            "hand-counter results": ("worker", words, "hands  cam1"),
            "hand-counter run": ("support.processes.worker_main", ["0", *words[1:]], "the worker has started"),
        }[name if name == "fps-sidecar" else f"{name} {words[0]}"]
        with (self._folder / "log").open("w+b") as log, self._server.client() as client:
            process = programs.start(module, *flags, output=log, environment=self._environment, folder=self._folder)

            def works() -> bool:
                if "results" in words:
                    client.xadd("{hand_counter}:counts", {"stream_name": "cam1", "ts": "1", "result": RESULT})
                said = (self._folder / "log").read_text()
                assert process.poll() is None, said
                return sign in said

            try:
                wait_until(works, f"{line!r} works", every_s=0.05)
            finally:
                programs.end(process)
            return int(process.poll() or 0)

    def _words(self, line: str) -> list[str]:
        """Returns the words of a line, with the places of this test in place of the page's."""
        places = {"127.0.0.1:50051": self._sidecar.address, "0.0.0.0:9470": f"127.0.0.1:{free_port()}"}
        words = [places.get(word, word) for word in shlex.split(line, comments=True)]
        if "probe" in words:
            places = {"rtsp://camera.local/stream": "film.mp4"}
        return [
            places.get(word, word)
            .replace("camera.local", "127.0.0.1:9")
            .replace("/var/log/hand-counter", str(self._folder))
            for word in words
        ]

    def openssl(self, *words: str) -> tuple[int, str]:
        """The program."""
        done = subprocess.run(["openssl", *words], capture_output=True, text=True)
        return done.returncode, done.stdout

    def fpsctl(self, *words: str) -> tuple[int, str]:
        """In this process."""
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.chdir(self._folder):
            return main([*words]), printed.getvalue()

    def hand_counter(self, *words: str) -> tuple[int, str]:
        """A process of its own, as a fork."""
        given = [str(self._folder / word) if word.endswith((".yaml", ".jpg", ".mp4")) else word for word in words]
        done = programs.run("worker", *given, environment=self._environment)
        return done.returncode, done.stdout

    def fps_sidecar(self, *words: str) -> tuple[int, str]:
        """Likewise."""
        done = programs.run("sidecar", *words, environment=self._environment)
        return done.returncode, done.stdout

    def redis_cli(self, *words: str) -> tuple[int, str]:
        """What redis-cli sends."""
        with self._server.client() as client:
            if words[0] == "--raw":
                return 0, str(client.get(words[2]))
            return 0, str(client.execute_command(*words))  # type: ignore[no-untyped-call]

    def grpcurl(self, *words: str) -> tuple[int, str]:
        """The program that the extra demo brings."""
        done = subprocess.run([Path(sys.executable).with_name("grpcurl"), *words], capture_output=True, text=True)
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film for all tasks."""
    return h264(tmp_path_factory.mktemp("film") / "film.mp4", [0.0, 0.1, 0.2])


@pytest.fixture
def shell(
    server: Valkey, sidecar: SidecarProcess, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """A shell with the streams that workers have seen, their limits, a result, and some files."""
    for name in os.environ:
        if name.startswith(("FPSCTL_", "SIDECAR_", "WORKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FPSCTL_REDIS_URL", server.url)
    monkeypatch.setenv("FPSCTL_SIDECAR", sidecar.address)
    monkeypatch.setattr(sys, "stdin", None)
    (tmp_path / "cameras.yaml").write_text(CAMERAS)
    (tmp_path / "limits.yaml").write_text(DOCUMENT)
    (tmp_path / "door.password").write_text("secret")
    shutil.copy(film, tmp_path)
    with server.client() as client:
        client.flushall()
        client.set("{hand_counter}:preview:cam1", "a picture")
        client.execute_command("ACL SETUSER fps-sidecar reset on >OLD")  # type: ignore[no-untyped-call]
        client.hset(LIMITS, mapping={name: fps for name, fps in STREAMS.items() if fps})
        client.xadd("{hand_counter}:counts", {"stream_name": "cam1", "ts": "1", "result": RESULT})
        for name in STREAMS:
            fields = {"stream_name": name, "heard_at": time.time(), "received": 9, "counted": 8, "skipped": 1}
            client.hset(f"{{hand_counter}}:stream:{name}", mapping=fields)
    return Shell(server, sidecar, tmp_path)


RESULT = """{"version": 1, "entry_id": "1-1", "stream_name": "cam1", "ts": 1.0, "backend": "palm-balanced", "engine": "litert",
"image": {"width": 64, "height": 48}, "hand_count": 0, "hand_count_smoothed": null, "hands": [],
"timings": {"queue_age": 0.1, "decode": 0.1, "detect": 0.1}}"""


def test_there_are_the_everyday_tasks():
    """At least forty, each with a command, a click or a page that says more; most of the commands are run."""
    assert len(TASKS) >= 40
    assert [
        task.title for task in TASKS if not task.blocks and "](" not in task.text and "Console:" not in task.text
    ] == []
    assert len([task for task in TASKS if task.commands]) >= 40
    assert {task.title for task in TASKS} >= AFTERWARDS.keys()


@pytest.mark.parametrize("task", [task for task in TASKS if task.commands], ids=lambda task: task.title)
def test_its_commands_work(task: Task, shell: Shell, server: Valkey):
    """Each ends well, or is a check that found something, and the limits are what the task says."""
    checks = ("fpsctl lint", "fpsctl diff", "fpsctl doctor")
    for line, goes_on in task.commands:
        code = shell.go_on(line) if goes_on else shell.run(line)
        assert code == 0 or (code == FOUND and line.startswith(checks)), line
    if task.title in AFTERWARDS:
        with server.client() as client:
            assert client.hgetall(LIMITS) == AFTERWARDS[task.title]
