"""What the cameras of a process share: the way to Redis, the limits that the sidecar tells, and who writes their states."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from handcounter.client import LimitsWatch, tls_credentials
from process.backoff import Backoff
from worker.publish.destination import Destination
from worker.publish.sender import Sender
from worker.publish.status_writer import StatusWriter
from worker.queue.connections import Connections

if TYPE_CHECKING:
    from worker.publish.camera_status import CameraStatus
    from worker.publish.options import DestinationOptions, LimitsOptions

logger = logging.getLogger(__name__)

LIMITS_S: Final = 1.0
"""How long a start waits for the streams' limits; the frames of sources that are slower to open are thinned anyway."""

_LAST_STATES: Final = 0.5
"""Part of the time for a stop that is kept for the last states, which have what was published in the end."""

_STOP_S: Final = 0.1
"""How soon a start that waits notices a signal."""


class Uplink:
    """The connections of a process that publishes."""

    def __init__(self, destination: DestinationOptions, limits: LimitsOptions | None) -> None:
        """Connects in the background."""
        self._connections = Connections(destination.redis, destination.access)
        self._destination = Destination(destination.partitions, self._connections.client)
        self.sender = Sender(
            self._destination,
            payload_ttl=destination.payload_ttl,
            max_queue=destination.max_queue,
            max_bytes=destination.max_bytes,
            backoff=Backoff(),
        )
        self._limits = limits
        self.watch: LimitsWatch | None = None
        """The limits; None: every frame is published."""
        if limits:
            credentials = tls_credentials(limits.ca, limits.certificate, limits.key) if limits.ca else None
            self.watch = LimitsWatch(limits.address, credentials=credentials)
        self._states: StatusWriter | None = None

    def start(self, statuses: Callable[[], Mapping[str, CameraStatus]]) -> None:
        """Begins to send frames, and to write the states that the function returns."""
        self.sender.start()
        self._states = StatusWriter(self._destination, statuses)
        self._states.start()

    def await_limits(self, done: threading.Event) -> bool:
        """Waits a moment for the first limits, so that the first frames are thinned too; returns whether they are known."""
        if not self.watch:
            return False
        started = time.monotonic()
        while not (told := self.watch.wait_told(_STOP_S)) and time.monotonic() < started + LIMITS_S:
            if done.is_set():
                return False
        return told

    def close(self, grace: float) -> bool:
        """Ends everything; returns False if a thread is in a call that can't be interrupted: then the process has to end.

        If Redis doesn't answer, nobody can read the last states, so they aren't waited for longer.
        """
        deadline = time.monotonic() + grace
        sent = self.sender.stop(grace * (1 - _LAST_STATES))
        written = self._states is None or self._states.stop(max(0.0, deadline - time.monotonic()))
        if not (sent and written):
            return False
        if self.watch:
            self.watch.close()
        self._connections.close()
        return True
