"""A real Valkey, frames for its queue, and worker processes, for the tests of the worker."""

import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import redis
from support.processes import programs
from support.redis.valkey import Valkey
from support.waiting import wait_until

from worker.queue.frame import encode_entry
from worker.queue.keys import CONSUMER_GROUP, Keys

NO_SIDECAR = "127.0.0.1:1"
KEYS = Keys()
_unique = itertools.count()
T0 = 1_700_000_000.0
"""The first ts of streams. It may be in the past, because the age of a frame is that of its entry's id."""


class QueueServer(Valkey):
    """A Valkey whose data survives a kill and a restart, with a client that returns bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "no")
        self.bytes = redis.Redis(port=self.port, driver_info=None)

    def close(self) -> None:
        """Stops it and closes its client."""
        self.bytes.close()
        super().close()


def picture(colour: tuple[int, int, int] = (90, 120, 90), width: int = 64, height: int = 48) -> bytes:
    """Returns a JPEG of one colour, BGR."""
    return cv2.imencode(".jpg", np.full((height, width, 3), colour, np.uint8))[1].tobytes()


POISON = picture((255, 0, 0))
"""Kills the process of a FakeDetector."""

RED = picture((0, 0, 255))
"""Makes a FakeDetector raise an error."""


def publish(client: redis.Redis, stream_name: str, ts: float, payload: bytes | None = None, ttl: int = 600) -> str:
    """Adds a frame to the queue, with its payload under its own key; returns the entry's id."""
    key = KEYS.payload(f"{stream_name}:{ts!r}")
    client.set(key, picture() if payload is None else payload, ex=ttl)
    return client.xadd(KEYS.frames, encode_entry(stream_name, ts, key)).decode()


def publish_many(
    client: redis.Redis, number: int, streams: int = 1, fps: float = 30.0, name: str = "cam", live: bool = True
) -> None:
    """Adds frames of several streams to the queue, in turns, all with the same picture."""
    payload = picture()
    pipeline = client.pipeline(transaction=False)
    for i in range(number):
        key = KEYS.payload(f"{name}:{next(_unique)}")
        pipeline.set(key, payload)
        pipeline.xadd(KEYS.frames, encode_entry(f"{name}{i % streams}", T0 + i // streams / fps, key, live=live))
    pipeline.execute()


def accounting(client: redis.Redis) -> dict[str, int]:
    """Returns the accounting."""
    return {field.decode(): int(value) for field, value in client.hgetall(KEYS.accounting).items()}


def balance(client: redis.Redis) -> int:
    """Received less settled: what is pending, 0 after a drain."""
    fields = accounting(client)
    return fields.pop("received", 0) - sum(fields.values())


def pending(client: redis.Redis) -> int:
    """The number of deliveries that aren't settled."""
    try:
        return int(client.xpending(KEYS.frames, CONSUMER_GROUP)["pending"])
    except redis.ResponseError:
        return 0


def drained(client: redis.Redis) -> bool:
    """Returns whether each entry was read, and is settled."""
    (group,) = client.xinfo_groups(KEYS.frames)
    newest = client.xinfo_stream(KEYS.frames)["last-generated-id"]
    return bool(group["pending"] == 0 and group["last-delivered-id"] == newest)


def calls(client: redis.Redis, command: str) -> int:
    """How often a command was called since the start of the server, or of the test."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


class Worker:
    """A worker process with a fake detector."""

    def __init__(self, log: Path, arguments: list[str]) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = programs.start("support.processes.worker_main", *arguments, output=output)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def wait(self, seconds: float = 60.0) -> int:
        """Waits until it exits; returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker goes on:\n{self.log}") from None

    def terminate(self, seconds: float = 60.0) -> int:
        """Sends SIGTERM once the worker handles it, and returns the exit code."""
        wait_until(lambda: "the worker has started" in self.log or self.process.poll() is not None)
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """Kills it, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def worker(
    valkey: QueueServer, *flags: str, seconds: float = 0.0, gpu: bool = False, sidecar: str = NO_SIDECAR
) -> Iterator[Worker]:
    """Starts a worker that takes so many seconds per frame; by default without a sidecar and without a limit.

    With a GPU, a fake one, it takes that time for all frames that wait together.
    """
    arguments = [
        f"gpu:{seconds}" if gpu else str(seconds),
        "--redis-url",
        valkey.url,
        "--sidecar",
        sidecar,
        "--http",
        "",
        "--fps",
        "inf",
    ]
    log = valkey.folder / f"worker-{time.monotonic_ns()}.log"
    # A running sidecar is never too slow, however busy the machine is.
    patience = ["--sidecar-wait", "0" if sidecar == NO_SIDECAR else "60", "--decision-timeout", "60"]
    if sidecar == NO_SIDECAR:
        patience += ["--unknown-streams", "pace"]
    process = Worker(log, [*arguments, "--max-age", "inf", "--threads", "2", *patience, *flags])
    try:
        yield process
    finally:
        process.kill()
