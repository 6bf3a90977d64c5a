"""The system under trial, all of it real processes: Valkey with a durable disk, a sidecar, two workers, and cameras."""

import itertools
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis
from support.processes import programs
from support.processes.ports import free_port
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.processes.workers import Worker
from support.publishing import PublishProcess
from support.redis.valkey import Valkey
from support.waiting import wait_until

from chaos.audit import Books
from worker.queue.keys import CONSUMER_GROUP, Keys

KEYS = Keys()
LIMITS_KEY = "stream_fps_configs"
LIMITS: Mapping[str, str] = {"cam0": "5", "cam1": "2", "cam2": "inf"}
"""Frames per second; the cameras have 10."""
CLAIM_IDLE_S = 2.0
SECONDS_PER_FRAME = 0.02
"""What the detector takes: a simulated one, so that the machine's speed doesn't decide how much is in progress."""
QUIET_S = 120.0
"""How long everything may take to be settled, however busy the machine is."""


class System:
    """Everything that runs, and how it is stopped and started again."""

    def __init__(self, folder: Path) -> None:
        """Prepares a system whose data and logs are in a folder."""
        self._folder = folder
        self._stack = ExitStack()
        self._names = itertools.count()
        self.server = self._stack.enter_context(_closing(Valkey(*durable(folder))))
        self.client = redis.Redis(port=self.server.port, retry=None)
        self.set_limits()
        self._sidecar_port = free_port()
        self._sidecar = ExitStack()
        self.sidecar = self._start_sidecar()
        self.workers = dict(self._start_worker() for _ in range(2))
        self.cameras: list[PublishProcess] = []

    def set_limits(self) -> None:
        """Writes the limits of the cameras."""
        self.client.hset(LIMITS_KEY, mapping=dict(LIMITS))

    def start_cameras(self) -> None:
        """Starts a publisher for each camera."""
        for name in LIMITS:
            source = f"synthetic:fps=10,hands=1,size=160x120,seed={name[-1]}"
            flags = ("--stream-name", name, "--redis-url", self.server.url, "--progress", "inf")
            camera = PublishProcess(source, *flags)
            self._stack.callback(camera.end)
            self.cameras.append(camera)

    def stop_cameras(self) -> None:
        """Stops the publishers as an operator would."""
        for camera in self.cameras:
            camera.signal(signal.SIGTERM)
        for camera in self.cameras:
            if code := camera.wait():
                raise AssertionError("\n".join([f"a publisher exited with {code}", *camera.said]))
        self.cameras.clear()

    def restart_sidecar(self) -> None:
        """Starts a sidecar where a dead one was."""
        self._sidecar.close()
        self.sidecar = self._start_sidecar()

    def restart_worker(self, name: str) -> None:
        """Starts a worker under the name of a dead one, as a container that restarts in its pod."""
        self.workers.update([self._start_worker(name)])

    def replace_worker(self, name: str) -> None:
        """Starts a worker under a new name in place of a dead one, as a new pod."""
        del self.workers[name]
        self.workers.update([self._start_worker()])

    def held_by(self, name: str) -> set[bytes]:
        """Returns the entries that a worker holds."""
        held = self.client.xpending_range(KEYS.frames, CONSUMER_GROUP, "-", "+", 10_000, consumername=name)
        return {each["message_id"] for each in held}

    def newest_result(self) -> bytes:
        """Returns the id of the newest result, 0-0 if there is none."""
        newest = self.client.xrevrange(KEYS.counts, count=1)
        return newest[0][0] if newest else b"0-0"

    def settle_everything(self) -> None:
        """Waits until the queue is read and nothing is pending, then stops the workers."""
        wait_until(self._is_quiet, "everything is settled", deadline_s=QUIET_S)
        for name, worker in self.workers.items():
            if code := worker.terminate():
                raise AssertionError(f"worker {name} exited with {code}:\n{worker.log}")
        self.workers.clear()

    def books(self) -> Books:
        """Returns what Redis has to say about the frames."""
        with suppress(redis.ResponseError):
            added = self.client.xinfo_stream(KEYS.frames)["entries-added"]
        letters = [fields for _, fields in self.client.xrange(KEYS.dead)]
        return Books(
            added=added,
            dropped_unread=int(self.client.hget(KEYS.unread, "dropped") or 0),
            pending=self.client.xpending(KEYS.frames, CONSUMER_GROUP)["pending"],
            accounting={field.decode(): int(number) for field, number in self.client.hgetall(KEYS.accounting).items()},
            counted_ids=[json.loads(fields[b"result"])["entry_id"] for _, fields in self.client.xrange(KEYS.counts)],
            dead_letters=sum(int(fields.get(b"deliveries", 1)) for fields in letters),
        )

    def close(self) -> None:
        """Ends all processes."""
        for worker in self.workers.values():
            worker.kill()
        self._sidecar.close()
        self._stack.close()
        self.client.close()

    def _is_quiet(self) -> bool:
        with suppress(redis.RedisError):
            queue = self.client.xinfo_stream(KEYS.frames)
            (group,) = self.client.xinfo_groups(KEYS.frames)
            return group["pending"] == 0 and group["last-delivered-id"] == queue["last-generated-id"]
        return False

    def _start_sidecar(self) -> SidecarProcess:
        running = sidecar_process(redis_url=self.server.url, fps=1.0, port=self._sidecar_port)
        return self._sidecar.enter_context(running)

    def _start_worker(self, name: str | None = None) -> tuple[str, Worker]:
        number = next(self._names)
        name = name or f"worker-{number}"
        flags = ["--redis-url", self.server.url, "--sidecar", self.sidecar.address, "--http", "", "--consumer", name]
        flags += ["--claim-idle", str(CLAIM_IDLE_S), "--counts-maxlen", "1000000", "--dead-maxlen", "1000000"]
        # Every other one as with a GPU: several frames are in progress at a time, bound to no thread.
        fake = f"gpu:{SECONDS_PER_FRAME}" if number % 2 else str(SECONDS_PER_FRAME)
        return name, Worker(self._folder / f"{number}.log", [fake, *flags])


@contextmanager
def running(folder: Path) -> Iterator[System]:
    """Runs a system while the block runs. Its programs are forked, because they start so often."""
    with programs.forks():
        system = System(folder)
        try:
            yield system
        finally:
            system.close()


@contextmanager
def _closing(server: Valkey) -> Iterator[Valkey]:
    try:
        yield server
    finally:
        server.close()


def durable(folder: Path) -> tuple[str, ...]:
    """Returns the arguments of a Valkey that loses nothing that it has answered."""
    return ("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always", "--save", "3600 1")


def freeze(process: programs.Process) -> None:
    """Stops a process without ending it (SIGSTOP)."""
    process.send_signal(signal.SIGSTOP)


def thaw(process: programs.Process) -> None:
    """Lets a frozen process continue (SIGCONT)."""
    process.send_signal(signal.SIGCONT)
