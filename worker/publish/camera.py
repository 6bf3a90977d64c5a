"""One camera of a process: its source, the frames of it that are due, and its state."""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

from process.backoff import Backoff
from worker.publish.camera_status import CameraState, CameraStatus
from worker.publish.open_source import name_of, open_source
from worker.publish.outages import Outages
from worker.publish.publisher import Progress, Publisher
from worker.publish.source import Source, SourceError
from worker.publish.thinner import Thinner

if TYPE_CHECKING:
    from handcounter.client import LimitsWatch
    from worker.publish.options import CameraOptions
    from worker.publish.sender import Sender

logger = logging.getLogger(__name__)

HOST = socket.gethostname()


class Camera:
    """A camera, published as one stream until it ends or is stopped."""

    def __init__(
        self,
        options: CameraOptions,
        sender: Sender,
        watch: LimitsWatch | None,
        *,
        count: int | None = None,
        duration: float = float("inf"),
        retries: bool = True,
    ) -> None:
        """Doesn't open it yet.

        Args:
            options: what it is.
            sender: sends its frames.
            watch: tells limits; None: every frame is published.
            count: published frames after which it ends.
            duration: seconds of capture times after which it ends.
            retries: whether a source that fails is opened again; a camera that was lost always is.
        """
        self.options = options
        self.source_name = name_of(options.source).name
        self._sender = sender
        self._watch = watch
        self._outages = Outages(self.source_name, options.stream_name)
        self._channel = sender.open(options.stream_name, most=count)
        self._stopped_at: float | None = None
        self.publisher = Publisher(
            self._open,
            self._channel,
            self._outages,
            duration=duration,
            due=Thinner(watch, options.stream_name, time.monotonic) if watch else None,
            retry=Backoff() if retries else None,
        )

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.options.stream_name

    @property
    def error(self) -> BaseException | None:
        """Why it ended; None after the end of a film or a stop, and before."""
        return self.publisher.error or self._channel.error

    @property
    def pushed_out(self) -> int:
        """Frames, of any stream, that this one's pushed out of the full queue before they were read."""
        return self._channel.pushed_out

    def progress(self) -> Progress:
        """Returns how many frames it had, and what became of them."""
        return self.publisher.progress()

    def start(self) -> None:
        """Starts its thread."""
        self.publisher.start()

    def tell_rate(self) -> None:
        """Tells the sidecar how many frames per second arrive."""
        if self._watch:
            self._watch.watch(self.name, self.publisher.source_fps())

    def _open(self) -> Source:
        source = open_source(self.options.source, self._outages)
        about = {"stream": self.name, "source": self.source_name, "queue": self._sender.queue}
        logger.info("publishing", extra=about)
        return source

    def request_stop(self) -> None:
        """Asks for its end; frames that aren't sent yet are discarded."""
        self._stopped_at = self._stopped_at or time.time()
        self.publisher.request_stop()

    def join(self, timeout: float) -> bool:
        """Waits for its thread; returns False if it is in a call that can't be interrupted."""
        if not self.publisher.join(timeout):
            return False
        if self.publisher.done.is_set():
            self._sender.forget(self._channel)
        return True

    def status(self) -> CameraStatus:
        """Returns its state, at any time."""
        publisher, outages, progress = self.publisher, self._outages, self.progress()
        state, since = self._state()
        width, height = publisher.picture_size or (0, 0)
        error = _in_words(self.error) if self.error else outages.last_problem
        return CameraStatus(
            state=state,
            since=since,
            source=self.source_name,
            error=error,
            error_at=outages.last_problem_at or since,
            codec=publisher.source.codec if publisher.source else "",
            size=f"{width}x{height}" if width else "",
            source_fps=0.0 if state in (CameraState.STOPPED, CameraState.ENDED) else publisher.source_fps(),
            ts=publisher.last_ts,
            arrived=progress.arrived,
            published=progress.published,
            thinned=progress.thinned,
            dropped=progress.dropped,
            bytes=self._channel.outlet.published_bytes,
            labels=self.options.labels,
            host=HOST,
            max_queue=self._sender.max_queue,
        )

    def _state(self) -> tuple[CameraState, float]:
        outages = self._outages
        if self.publisher.ended_at is not None:
            return CameraState.ENDED, self.publisher.ended_at
        if self._stopped_at is not None:
            return CameraState.STOPPED, self._stopped_at
        if outages.problem:
            return CameraState.LOST, outages.since
        return (CameraState.WORKING if outages.working else CameraState.STARTING), outages.since


def _in_words(error: BaseException) -> str:
    """Returns the text of an error that is written to be shown; of others only the kind, since they may repeat a URL."""
    return str(error) if isinstance(error, SourceError) else f"the publisher failed: {type(error).__name__}"
