"""The demo's Valkey, sidecar, worker and cameras: how they are started, watched and stopped.

The boundaries of the phases need care. A limit applies to decisions, and a frame is decided some time after its
capture, because it waits in the queue. So a phase begins, by the frames' clock, when the sidecar reports all of its
limits as in force: they apply to every frame captured from then on. And limits are changed only after every frame
captured before the end of the phase has been settled. Frames captured in between belong to no phase.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from process.backoff import Backoff
from worker.demo.ledger import StreamLedger
from worker.demo.limits_view import LimitsView
from worker.demo.options import DemoOptions
from worker.demo.plan import DEFAULT_FPS, DemoCamera, Phase
from worker.demo.processes import Child, DemoError, python_module, start_on_free_port, start_valkey, wait_for_http
from worker.publish.destination import on_one_server
from worker.publish.open_source import jpeg_encoder
from worker.publish.outages import Outages
from worker.publish.publisher import GRACE_S, Publisher
from worker.publish.sender import Sender
from worker.publish.simulated import SimulatedCamera
from worker.publish.source import Captured
from worker.queue.failures import failure_in_words
from worker.queue.keys import CONSUMER_GROUP, DEFAULT_PREFIX, Keys
from worker.queue.partitions import Partitions
from worker.queue.redis_client import connect
from worker.synthetic.spec import SyntheticSpec

CONFIG_KEY = "stream_fps_configs"
PAYLOAD_TTL_S = 1200.0
"""Longer than the demo: on a slow machine frames are late, but they are still counted."""

CATCH_UP_S = 120.0
"""How far cameras and worker may fall behind before the demo fails: about as long as all of it may take."""

_TOO_BUSY = "this machine is too slow or too busy"

_BUFFER_FRAMES = 300
"""Ten seconds, so that no frames are dropped on a busy machine."""

_DEATH_S = 5.0
"""Seconds to wait for the end of a process after its connection broke, which is noticed first."""

_POLL_S = 0.02


class Stage(contextlib.ExitStack):
    """The running parts of the demo; leaving it stops them in the reverse order of their start."""

    def __init__(
        self, folder: Path, options: DemoOptions, *, models_dir: Path, check_interrupt: Callable[[], None]
    ) -> None:
        """Takes a folder for logs; `check_interrupt` is called during waits and may raise to end them."""
        super().__init__()
        self.children: list[Child] = []
        self.ledgers: list[StreamLedger] = []
        self._folder = folder
        self._options = options
        self._models_dir = models_dir
        self._check_interrupt = check_interrupt
        self._publishers: list[Publisher] = []
        self._last_result = "0-0"
        self.sidecar = ""
        self.console = ""
        """The address of the web page."""
        self.redis_url, own = options.redis_url or "", f"demo_{secrets.token_hex(4)}"
        self.config_key = f"{CONFIG_KEY}:{own}" if options.redis_url else CONFIG_KEY
        self.keys = Keys(f"{DEFAULT_PREFIX}:{own}" if options.redis_url else DEFAULT_PREFIX)

    def start(self) -> None:
        """Starts everything except the cameras. Raises DemoError."""
        if not self.redis_url:
            valkey, self.redis_url = start_valkey(self._folder)
            self._add(valkey)
        # redis-py's type of a reply is a union over all modes.
        self._redis: Any = self.enter_context(contextlib.closing(connect(self.redis_url)))
        try:
            self._redis.ping()
        except redis.RedisError as error:
            what, about = failure_in_words(error)
            hint = about.get("hint", "check --redis-url, and whether the server runs")
            raise DemoError(f"{what}: {error} ({hint})") from error
        self.callback(self._delete_keys)
        sidecar, port = start_on_free_port(self._start_sidecar, self._wait_for_sidecar)
        self._add(sidecar)
        self.sidecar = f"127.0.0.1:{port}"
        self._limits = self.enter_context(contextlib.closing(LimitsView(self.sidecar)))
        self._add(Child("worker", self._worker_command(), self._folder))
        console, port = start_on_free_port(self._start_console, wait_for_http)
        self._add(console)
        self.console = f"http://127.0.0.1:{port}/"
        self._until(self._worker_reads, "the worker doesn't start reading the queue")

    def publish(self, cameras: Sequence[DemoCamera]) -> None:
        """Starts the cameras."""
        encode = jpeg_encoder(85)
        ledgers: dict[str, StreamLedger] = {}

        def record(stream_name: str, frame: Captured) -> None:
            ledgers[stream_name].published.append(frame.ts)

        client = self.enter_context(contextlib.closing(connect(self.redis_url)))
        sender = Sender(
            on_one_server(client, self.keys),
            payload_ttl=PAYLOAD_TTL_S,
            max_queue=100_000,
            backoff=Backoff(),
            on_published=record,
        )
        self.callback(sender.stop, GRACE_S)
        for number, camera in enumerate(cameras):
            spec = SyntheticSpec(
                fps=camera.fps, seed=self._options.seed * len(cameras) + number, people=camera.people, size=camera.size
            )
            source = SimulatedCamera(spec, encode, paced=True)
            ledgers[camera.stream_name] = ledger = StreamLedger(camera, source)
            channel = sender.open(camera.stream_name, size=_BUFFER_FRAMES)
            publisher = Publisher(_opened(source), channel, Outages(camera.stream_name))
            self.callback(publisher.stop)
            self.ledgers.append(ledger)
            self._publishers.append(publisher)
        sender.start()
        for publisher in self._publishers:
            publisher.start()

    def change(self, phase: Phase) -> None:
        """Makes a phase's changes of the hash."""
        for name, value in phase.changes.items():
            if value is None:
                self._redis.hdel(self.config_key, name)
            else:
                self._redis.hset(self.config_key, name, value)

    def wait_in_force(self, limits: Mapping[str, float]) -> float:
        """Waits until the sidecar reports these limits as in force; returns the time, Unix seconds."""
        self._until(lambda: self._limits.in_force() == limits, f"the limits {limits} don't come into force", 0.002)
        return time.time()

    def wait_until_settled(self, end: float) -> None:
        """Waits until every frame captured before this time is settled, and reads the results."""

        def all_published() -> bool:
            return all(ledger.published and ledger.published[-1] >= end for ledger in self.ledgers)

        self._until(all_published, f"a camera is too far behind: {_TOO_BUSY}")
        ((newest, _),) = self._redis.xrevrange(self.keys.frames, count=1)

        def all_settled() -> bool:
            (group,) = self._redis.xinfo_groups(self.keys.frames)
            pending = self._redis.xpending(self.keys.frames, CONSUMER_GROUP)["min"]
            return _order(group["last-delivered-id"]) >= _order(newest) and (
                pending is None or _order(pending) > _order(newest)
            )

        self._until(all_settled, f"the worker is too far behind: {_TOO_BUSY}")
        self.read_results()

    def end(self) -> dict[str, int]:
        """Stops the cameras, waits for the worker, reads the last results, and returns the worker's accounting."""
        for publisher in self._publishers:
            publisher.stop()
        self._until(self._drained, f"the worker is too far behind: {_TOO_BUSY}")
        self.read_results()
        fields = self._redis.hgetall(self.keys.accounting)
        return {name.decode(): int(number) for name, number in fields.items()}

    def read_results(self) -> None:
        """Reads the worker's results since the last call."""
        by_name = {ledger.camera.stream_name.encode(): ledger for ledger in self.ledgers}
        while entries := self._redis.xrange(self.keys.counts, min=f"({self._last_result}", count=1000):
            for entry_id, fields in entries:
                by_name[fields[b"stream_name"]].add_result(fields[b"result"])
                self._last_result = entry_id.decode()

    def check(self) -> None:
        """Raises DemoError if a process or a camera has ended."""
        for child in self.children:
            child.check()
        for publisher in self._publishers:
            if publisher.error:
                raise DemoError(f"a camera failed: {publisher.error}")

    def cause_of(self, error: Exception) -> DemoError:
        """Returns the end of the process that broke a connection, or else the connection's error."""
        deadline = time.monotonic() + _DEATH_S
        while time.monotonic() < deadline:
            try:
                self.check()
            except DemoError as ended:
                return ended
            time.sleep(_POLL_S)
        return error if isinstance(error, DemoError) else DemoError(f"Redis failed: {error}")

    def _add(self, child: Child) -> None:
        self.children.append(child)
        self.callback(child.stop)

    def _start_sidecar(self, port: int) -> Child:
        flags = ["--redis-url", self.redis_url, "--config-key", self.config_key, "--fps", str(DEFAULT_FPS)]
        flags += ["--listen", f"127.0.0.1:{port}", "--http", ""]
        return Child("sidecar", python_module("sidecar", *flags), self._folder)

    def _start_console(self, port: int) -> Child:
        # A process of its own: the worker doesn't import the console.
        flags = ["--redis-url", self.redis_url, "--config-key", self.config_key, "--prefix", self.keys.prefix]
        flags += ["--sidecar", self.sidecar, "--listen", f"127.0.0.1:{port}", "--allow-changes"]
        return Child("console", python_module("console.web", *flags), self._folder)

    @staticmethod
    def _wait_for_sidecar(sidecar: Child, port: int) -> None:
        with contextlib.closing(LimitsView(f"127.0.0.1:{port}")) as limits:
            limits.wait_ready(sidecar)

    def _worker_command(self) -> list[str]:
        flags = ["--redis-url", self.redis_url, "--prefix", self.keys.prefix, "--fps", str(DEFAULT_FPS)]
        flags += ["--sidecar", self.sidecar, "--http", "", "--effort", self._options.effort]
        flags += ["--models-dir", str(self._models_dir)]
        # On a slow machine counting and the sidecar's answers are late, but the rates are the same.
        flags += ["--max-age", "inf", "--decision-timeout", "60"]
        return python_module("worker", "run", *flags, "--counts-maxlen", "100000")

    def _worker_reads(self) -> bool:
        return bool(self._redis.exists(self.keys.frames)) and bool(self._redis.xinfo_groups(self.keys.frames))

    def _drained(self) -> bool:
        fields = {name: int(number) for name, number in self._redis.hgetall(self.keys.accounting).items()}
        received = fields.pop(b"received", 0)
        published = sum(len(ledger.published) for ledger in self.ledgers)
        return received >= published and received == sum(fields.values())

    def _delete_keys(self) -> None:
        """Deletes the demo's keys, because the Redis may be the user's own."""
        with contextlib.suppress(redis.RedisError):
            keys = [self.keys.frames, self.keys.counts, self.keys.dead, self.keys.accounting, self.keys.unread]
            keys += [
                self.config_key,
                *(f"{self.config_key}:{part}" for part in ("patterns", "boosts", "audit", "seen")),
            ]
            keys += [Partitions(self.keys.prefix).number_key]
            for each in (self.keys.payload("*"), self.keys.stream("*"), self.keys.preview("*")):
                keys += self._redis.scan_iter(match=each, count=1000)
            self._redis.unlink(*keys)

    def _until(self, condition: Callable[[], bool], complaint: str, poll: float = _POLL_S) -> None:
        deadline = time.monotonic() + CATCH_UP_S
        while not condition():
            self.check()
            self._check_interrupt()
            if time.monotonic() > deadline:
                raise DemoError(f"{complaint}{''.join(child.last_lines() for child in self.children)}")
            time.sleep(poll)


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)


def _opened(source: SimulatedCamera) -> Callable[[], SimulatedCamera]:
    return lambda: source
