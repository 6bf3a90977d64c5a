"""The other system under trial: RTSP cameras, one process that publishes all of them, and a Valkey with a durable disk."""

import os
import re
import shutil
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis
from support.processes import programs
from support.publishing import IngestProcess, h264
from support.redis.valkey import Valkey
from support.rtsp_cameras import RtspCameras
from support.waiting import wait_until

from chaos.system import durable
from worker.queue.frame import parse_entry
from worker.queue.keys import Keys

KEYS = Keys()
FPS = 10
STEADY = ("cam0", "cam1", "cam2", "cam3")
PASSING = "passing"
"""A camera that is left out of the list now and then."""


class Cameras:
    """The cameras, their publisher, and what it has published."""

    def __init__(self, folder: Path) -> None:
        """Starts everything. Data, film and list are in a folder."""
        self.list = folder / "cameras.yaml"
        # Cameras begin with the beginning of the film.
        self._film = h264(folder / "film.ts", [index / FPS for index in range(FPS)], tune="zerolatency")
        self.servers = [RtspCameras(self._film, FPS, phases=3) for _ in range(2)]
        self.redis = Valkey(*durable(folder))
        self.client = redis.Redis(port=self.redis.port, retry=None)
        self.frames: dict[str, list[float]] = defaultdict(list)
        """The capture times of each stream's frames, in the order of the queue."""
        self.before: dict[str, int] = {}
        """How many of them earlier publishers had added."""
        self._read_up_to = "-"
        self.write(self.text(*STEADY, PASSING))
        self.ingest = self._started()

    def text(self, *names: str) -> str:
        """Returns the list of these cameras, in lines of which the first ones are a valid list too."""
        entries = (
            f'  - {{name: {name}, source: "{self.servers[number % 2].url(number)}"}}'
            for number, name in enumerate((*STEADY, PASSING))
            if name in names
        )
        return "\n".join(["defaults: {source-timeout: 2}", "cameras:", *entries, ""])

    def write(self, text: str) -> None:
        """Writes the list as an editor may: the file is first empty, then whole."""
        self.list.unlink(missing_ok=True)
        self.list.write_text(text)

    def replace_by_pipe(self) -> None:
        """Puts a pipe without a writer in place of the list."""
        self.list.unlink()
        os.mkfifo(self.list)

    def restart_server(self, number: int) -> None:
        """Starts cameras where dead ones were."""
        self.servers[number] = RtspCameras(self._film, FPS, phases=3, port=self.servers[number].port)

    def restart_ingest(self) -> None:
        """Starts a publisher after a killed one."""
        self.ingest.wait()
        self.ingest = self._started()

    def collect(self) -> None:
        """Reads the entries that are new."""
        for entry_id, fields in self.client.xrange(KEYS.frames, self._read_up_to):
            frame = parse_entry(entry_id.decode(), fields)
            self.frames[frame.stream_name].append(frame.ts)
            self._read_up_to = f"({entry_id.decode()}"

    def state(self, name: str) -> str:
        """Returns the state of a camera, empty if there is none."""
        return (self.client.hget(KEYS.camera(name), "state") or b"").decode()

    def lists_refused(self) -> int:
        """Returns how many versions of the list the publisher that runs has refused."""
        return len(self.ingest.says("the cameras stay as they are"))

    def await_frames(self, names: Sequence[str] = (*STEADY, PASSING)) -> None:
        """Waits until each of these cameras has added a frame."""
        self.collect()
        had = {name: len(self.frames[name]) for name in names}

        def all_have_more() -> bool:
            self.collect()
            return all(len(self.frames[name]) > number for name, number in had.items())

        wait_until(all_have_more, f"frames of {', '.join(names)}")

    def stop(self) -> int:
        """Ends the publisher as an operator would; returns how many frames it says it has published."""
        self.ingest.signal(signal.SIGTERM)
        if code := self.ingest.wait():
            raise AssertionError("\n".join([f"the publisher exited with {code}", *self.ingest.said]))
        (line,) = self.ingest.says("finished cameras=")
        self.collect()
        return int(re.findall(r"published=(\d+)", line)[0])

    def added(self) -> int:
        """Returns how many frames the publisher that runs, or the last one, has added."""
        return sum(len(self.frames[name]) - self.before.get(name, 0) for name in (*STEADY, PASSING))

    def close(self) -> None:
        """Ends all processes."""
        self.ingest.end()
        self.client.close()
        self.redis.close()
        for server in self.servers:
            server.close()

    def _started(self) -> IngestProcess:
        self.collect()
        self.before = {name: len(times) for name, times in self.frames.items()}
        flags = ("--redis-url", self.redis.url, "--payload-ttl", "5", "--max-queue", "10000000", "--progress", "inf")
        return IngestProcess(self.list, *flags)


@contextmanager
def publishing(folder: Path) -> Iterator[Cameras]:
    """Runs cameras and their publisher while the block runs."""
    with programs.forks():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        cameras = Cameras(folder)
        try:
            yield cameras
        finally:
            cameras.close()
