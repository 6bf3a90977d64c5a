"""The thread that writes the state of each camera into Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import redis

from worker.publish.camera_status import EVERY_S, TTL_S, CameraStatus
from worker.publish.destination import Destination
from worker.queue.exchange import Request, exchange

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How soon a change is written."""

_LATE = 0.5
"""Part of the interval after which a state is written along with others that have to be, so that they come together."""

_IN_ONE_TRIP = 200


class StatusWriter:
    """Writes what has changed every second, and everything every 10 seconds. Failures are left to the sender to report."""

    def __init__(self, destination: Destination, statuses: Callable[[], Mapping[str, CameraStatus]]) -> None:
        """Takes the queue, beside which states are written, and a function that returns the state of each camera.

        Those are by their streams' names, and include those that have just ended.
        """
        self._destination = destination
        self._statuses = statuses
        self._written: dict[str, tuple[float, tuple[object, ...]]] = {}
        """When the state of each camera was written, and its news."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera-status", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Writes the last states and ends; returns False if that takes longer, because Redis doesn't answer."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        stopped = False
        while True:
            try:
                self._write(time.monotonic())
            except Exception:
                logger.exception("the cameras' states can't be written")
            if stopped:
                return
            stopped = self._stop.wait(_LOOK_S)

    def _write(self, now: float) -> None:
        statuses, problem = self._statuses(), ""
        for gone in self._written.keys() - statuses.keys():
            del self._written[gone]
        due = [name for name, status in statuses.items() if self._is_due(name, status, now, EVERY_S)]
        if due:
            due = [name for name, status in statuses.items() if self._is_due(name, status, now, _LATE * EVERY_S)]
        for start in range(0, len(due), _IN_ONE_TRIP):
            part = due[start : start + _IN_ONE_TRIP]
            requests: list[Request] = []
            for name in part:
                keys = self._destination.keys(name)
                client, key = self._destination.client(keys), keys.camera(name)
                words = [word for pair in statuses[name].fields(time.time()).items() for word in pair]
                requests += [Request(client, ("HSET", key, *words)), Request(client, ("EXPIRE", key, TTL_S))]
            replies = exchange(requests)
            for name, *written in zip(part, replies[::2], replies[1::2], strict=True):
                # What a server refuses it will refuse again; the sender says so. A server that was lost gets it later.
                if lost := [each for each in written if isinstance(each, redis.ConnectionError | redis.TimeoutError)]:
                    problem = str(lost[0])
                else:
                    self._written[name] = now, statuses[name].news
        if problem:
            logger.debug("the cameras' states can't be written", extra={"error": problem})

    def _is_due(self, name: str, status: CameraStatus, now: float, after: float) -> bool:
        written = self._written.get(name)
        return written is None or written[1] != status.news or now >= written[0] + after
