"""The cameras of a process: which run, and how the set is changed while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from worker.publish.camera import Camera
from worker.publish.camera_status import CameraStatus
from worker.publish.options import CameraOptions

SHOWN_S = 3.0
"""How long a camera is shown as stopped, so that its last state is written."""


@dataclass(frozen=True, slots=True)
class Change:
    """The names of the cameras that a new list changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]

    def __bool__(self) -> bool:
        """Returns whether there is any."""
        return bool(self.added or self.removed or self.changed)


class CameraSet:
    """Cameras by their names. For one thread, but that any may ask for their states.

    A camera that is changed or removed is asked to end, and nobody waits for that: its thread may be in a call that lasts as
    long as its time-out. Until then its successor doesn't start, since two would be two clocks under one name.
    """

    def __init__(self, make: Callable[[CameraOptions], Camera], clock: Callable[[], float] = time.monotonic) -> None:
        """Takes what makes a camera, not started, and real time, seconds by a monotonic clock."""
        self._make = make
        self._clock = clock
        self._running: dict[str, Camera] = {}
        self._leaving: list[tuple[float, Camera]] = []
        """Cameras that were asked to end, and when."""
        self._next: dict[str, CameraOptions] = {}
        """What starts as soon as the camera of its name has ended."""

    def __len__(self) -> int:
        """Returns how many cameras there are, those included that are about to start."""
        return len(self._running) + len(self._next)

    @property
    def running(self) -> list[Camera]:
        """The cameras that run, or have come to their end."""
        return list(self._running.values())

    def apply(self, wanted: Sequence[CameraOptions]) -> Change:
        """Makes the set the one that is wanted; a camera that is the same in both isn't touched."""
        by_name = {options.stream_name: options for options in wanted}
        before = {**{name: camera.options for name, camera in self._running.items()}, **self._next}
        change = Change(
            added=[name for name in by_name if name not in before],
            removed=[name for name in before if name not in by_name],
            changed=[name for name in by_name if name in before and by_name[name] != before[name]],
        )
        for name in change.removed:
            self._end(name)
        for name in change.changed:
            camera = self._running.get(name)
            if camera and replace(camera.options, labels=by_name[name].labels) == by_name[name]:
                camera.options = by_name[name]
            else:
                self._end(name)
                self._next[name] = by_name[name]
        for name in change.added:
            self._next[name] = by_name[name]
        self.tend()
        return change

    def tend(self) -> None:
        """Starts what can be started, and forgets what has ended. To be called now and then."""
        for name, camera in list(self._running.items()):
            if camera.error and camera.publisher.done.is_set():
                self._end(name)
                self._next[name] = camera.options
        now = self._clock()
        self._leaving = [
            (since, camera) for since, camera in self._leaving if not camera.join(0.0) or now < since + SHOWN_S
        ]
        ending = {camera.name for _, camera in self._leaving if not camera.join(0.0)}
        for name in [name for name in self._next if name not in ending]:
            camera = self._make(self._next[name])
            camera.start()
            self._running[name] = camera
            del self._next[name]

    def statuses(self) -> dict[str, CameraStatus]:
        """Returns the state of each camera, also of those that have just been removed. For any thread."""
        leaving = {camera.name: camera.status() for _, camera in list(self._leaving)}
        return {**leaving, **{name: camera.status() for name, camera in list(self._running.items())}}

    def request_stop(self) -> None:
        """Asks all cameras to end; nothing more is published."""
        self._next.clear()
        for camera in self.running:
            camera.request_stop()

    def join(self, timeout: float) -> bool:
        """Waits until all have ended; returns False if one of them is in a call that can't be interrupted."""
        everything = [*self.running, *(camera for _, camera in self._leaving)]
        deadline = self._clock() + timeout
        joined = [camera.join(max(0.0, deadline - self._clock())) for camera in everything]
        return all(joined)

    def _end(self, name: str) -> None:
        self._next.pop(name, None)
        camera = self._running.pop(name, None)
        if camera:
            camera.request_stop()
            self._leaving.append((self._clock(), camera))
