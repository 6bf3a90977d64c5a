"""``hand-counter ingest``: publishes all cameras in a file, which may change meanwhile."""

from __future__ import annotations

import collections
import logging
import threading
import time
from typing import Final

import cv2

from process.http import HttpEndpoint
from worker.ending import end_process, ends_in_time
from worker.publish.camera import Camera
from worker.publish.camera_set import CameraSet
from worker.publish.camera_status import CameraState
from worker.publish.cameras_file import CamerasFileError
from worker.publish.heap import use_little_memory
from worker.publish.ingest_metrics import IngestMetrics
from worker.publish.options import CameraOptions, IngestOptions
from worker.publish.publisher import GRACE_S
from worker.publish.uplink import Uplink
from worker.publish.watched_list import WatchedList
from worker.stop_signals import stop_signals

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the file and the cameras are looked at."""

LAST_PACKETS_S: Final = 0.15
"""Seconds that a stop waits for the cameras' threads. Each ends with its camera's next packet, and nothing depends on that: the
process ends without those that are still in a call."""

STUCK_S: Final = 60.0
"""After so long without a look something hangs, and a restart helps."""


def run_ingest(options: IngestOptions) -> int:
    """Publishes until a signal arrives.

    Returns:
        The exit code, if it doesn't publish. After that the process exits in here.
    """
    try:
        cameras = WatchedList(options.cameras)
    except CamerasFileError as error:
        for line in error.lines:
            logger.error("%s", line)
        return 2
    if options.check:
        print(f"{options.cameras}: {len(cameras.current.cameras)} cameras, no errors")  # noqa: T201
        return 0
    use_little_memory()
    cv2.setNumThreads(1)
    try:
        return Ingest(options, cameras).run()
    except OSError as error:
        reason = error.strerror or str(error)
        logger.error(
            "can't listen on --http; port 0 takes a free one", extra={"address": options.http, "error": reason}
        )
        return 1


class Ingest:
    """A process with many cameras."""

    def __init__(self, options: IngestOptions, cameras: WatchedList) -> None:
        """Raises OSError if the HTTP endpoint's address can't be used."""
        self._options = options
        self._list = cameras
        self._looked_at = time.monotonic()
        self._uplink = Uplink(options.destination, options.limits)
        self._set = CameraSet(self._make)
        self._done = threading.Event()
        metrics = IngestMetrics(self._set.statuses, self._uplink.sender.works, options.metrics_cameras)
        self._endpoint = HttpEndpoint(options.http, metrics.registry, self.health, self.alive) if options.http else None

    def run(self) -> int:
        """Runs until a signal arrives or something fails, and ends the process.

        The interpreter would take its time for that, and a thread may be in a call that can't be interrupted.
        """
        uplink = self._uplink
        with stop_signals(self._done) as signalled, ends_in_time(signalled):
            about = {"file": str(self._options.cameras), "http": self._endpoint.address if self._endpoint else ""}
            logger.info("publishing cameras", extra={"cameras": len(self._list.current.cameras), **about})
            if uplink.watch:
                for each in self._list.current.cameras:
                    uplink.watch.watch(each.stream_name)
                uplink.await_limits(self._done)
            uplink.start(self._set.statuses)
            self._set.apply(self._list.current.cameras)
            self._look_until_done()
            logger.info("stopping", extra={"cameras": len(self._set)})
            deadline = time.monotonic() + LAST_PACKETS_S  # the cameras end while the last states are written
            self._set.request_stop()
            uplink.close(GRACE_S)
            self._set.join(max(0.0, deadline - time.monotonic()))
            logger.info("finished", extra=self._figures())
            code = 0 if signalled.is_set() and not uplink.sender.failed else 1
        return end_process(code)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Returns whether frames can be published, and details. A lost camera is no reason to doubt the others."""
        states = collections.Counter(status.state.value for status in self._set.statuses().values())
        details: dict[str, object] = {
            "redis": "ok" if self._uplink.sender.works() else "unreachable",
            "cameras": {state.value: states[state.value] for state in CameraState if states[state.value]},
        }
        if self._uplink.watch:
            details["sidecar"] = "unreachable" if self._uplink.watch.sidecar_unreachable else "ok"
        if self._list.error:
            details["file"] = "the newest version isn't valid; the one before is in force"
        return self._uplink.sender.works() and self.alive()[0], details

    def alive(self) -> tuple[bool, dict[str, object]]:
        """Returns whether a restart wouldn't help, and details."""
        seconds = time.monotonic() - self._looked_at
        return seconds < STUCK_S and not self._uplink.sender.failed, {"seconds_since_look": round(seconds, 1)}

    def _make(self, options: CameraOptions) -> Camera:
        camera = Camera(options, self._uplink.sender, self._uplink.watch)
        camera.tell_rate()
        return camera

    def _look_until_done(self) -> None:
        before, due = self._figures(), time.monotonic() + self._options.progress
        while not self._done.wait(LOOK_S):
            self._looked_at = now = time.monotonic()
            if self._uplink.sender.failed:
                return
            if self._list.changed():
                self._apply()
            self._set.tend()
            for camera in self._set.running:
                camera.tell_rate()
            if now >= due:
                due = now + self._options.progress
                figures = self._figures()
                if figures != before:
                    logger.info("progress", extra=figures)
                before = figures

    def _apply(self) -> None:
        change = self._set.apply(self._list.current.cameras)
        for name in change.removed:
            if self._uplink.watch:
                self._uplink.watch.unwatch(name)
        if change:
            about = {"added": change.added, "removed": change.removed, "changed": change.changed}
            logger.info("the cameras have changed", extra={"cameras": len(self._set), **about})

    def _figures(self) -> dict[str, object]:
        statuses = self._set.statuses().values()
        return {
            "cameras": len(self._set),
            "working": sum(status.state is CameraState.WORKING for status in statuses),
            "lost": sum(status.state is CameraState.LOST for status in statuses),
            "published": sum(status.published for status in statuses),
            "thinned": sum(status.thinned for status in statuses),
            "dropped": sum(status.dropped for status in statuses),
        }
