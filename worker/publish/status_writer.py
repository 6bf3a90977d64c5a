"""The thread that writes the state of each camera into Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import redis

from worker.publish.camera_status import EVERY_S, TTL_S, CameraStatus
from worker.queue.keys import Keys

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How soon a change is written."""

_LATE = 0.5
"""Part of the interval after which a state is written along with others that have to be, so that they come together."""

_IN_ONE_TRIP = 200


class StatusWriter:
    """Writes what has changed every second, and everything every 10 seconds. Failures are left to the sender to report."""

    def __init__(self, client: redis.Redis, keys: Keys, statuses: Callable[[], Mapping[str, CameraStatus]]) -> None:
        """Takes a function that returns the state of each camera by its stream's name, those that have just ended included."""
        self._client = client
        self._keys = keys
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
            except redis.RedisError as error:
                logger.debug("the cameras' states can't be written", extra={"error": str(error)})
            except Exception:
                logger.exception("the cameras' states can't be written")
            if stopped:
                return
            stopped = self._stop.wait(_LOOK_S)

    def _write(self, now: float) -> None:
        statuses = self._statuses()
        for gone in self._written.keys() - statuses.keys():
            del self._written[gone]
        due = [name for name, status in statuses.items() if self._is_due(name, status, now, EVERY_S)]
        if due:
            due = [name for name, status in statuses.items() if self._is_due(name, status, now, _LATE * EVERY_S)]
        for start in range(0, len(due), _IN_ONE_TRIP):
            part = due[start : start + _IN_ONE_TRIP]
            pipeline = self._client.pipeline(transaction=False)
            for name in part:
                key = self._keys.camera(name)
                words = [word for pair in statuses[name].fields(time.time()).items() for word in pair]
                pipeline.hset(key, items=words)
                pipeline.expire(key, TTL_S)
            pipeline.execute(raise_on_error=False)
            for name in part:
                self._written[name] = now, statuses[name].news

    def _is_due(self, name: str, status: CameraStatus, now: float, after: float) -> bool:
        written = self._written.get(name)
        return written is None or written[1] != status.news or now >= written[0] + after
