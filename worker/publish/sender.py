"""The thread that sends the frames of all cameras of a process to Redis, in as many attempts as it takes."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

import redis

from process.backoff import Backoff
from worker.publish.destination import Destination
from worker.publish.frame_writer import FULL, FrameWriter, NumberedFrame, StreamFrames
from worker.publish.outbox import OUTBOX_BYTES, OUTLET_FRAMES, Outbox, Outlet
from worker.publish.source import Captured
from worker.queue.failures import failure_in_words
from worker.queue.open_queue import part_of
from worker.queue.partition_number import CHECK_S, PartitionsError
from worker.queue.permissions import log_missing_permissions, missing_permissions, publisher_probes

logger = logging.getLogger(__name__)

_ROOM_S = 0.1
"""Seconds between two looks whether a full queue has room again."""

_BATCH_FRAMES = 64
_BATCH_BYTES = 4 * 1024 * 1024
"""What is sent in one round trip: much more than one frame, but no strain on Redis or on memory."""


class Channel:
    """The way of one stream's frames to Redis: its outlet, and how they are written."""

    def __init__(self, outlet: Outlet, frames: Callable[[bool, bool], StreamFrames]) -> None:
        """Takes a function that prepares for frames that are or aren't live, of a source that can or can't wait."""
        self.pushed_out = 0
        """Entries that frames of this stream pushed out of the full queue before any worker read them."""
        self.error: Exception | None = None
        """Why no frame of it can be written; the outlet is closed then."""
        self.numbered: NumberedFrame | None = None
        """The frame that was tried, until it is written."""
        self.was_full = False
        self.frames = frames(True, False)
        self._outlet = outlet
        self._prepare = frames

    @property
    def outlet(self) -> Outlet:
        """Takes the frames."""
        return self._outlet

    def begin(self, *, live: bool, waits: bool) -> None:
        """Prepares for frames that are or aren't live, of a source that can or can't wait. Before its first frame."""
        self.frames = self._prepare(live, waits)
        self._outlet.live = not waits


class Sender:
    """Sends the frames of all streams. While Redis is unreachable or refuses one, they wait if they may."""

    def __init__(
        self,
        destination: Destination,
        *,
        payload_ttl: float,
        max_queue: int,
        backoff: Backoff,
        max_bytes: int = OUTBOX_BYTES,
        on_published: Callable[[str, Captured], None] = lambda _stream, _frame: None,
    ) -> None:
        """Doesn't send yet.

        Args:
            destination: the queue.
            payload_ttl: seconds after which a picture that no worker has fetched is deleted.
            max_queue: about how many entries the queue keeps, in all partitions together.
            backoff: pauses between attempts.
            max_bytes: how many bytes of pictures may wait here.
            on_published: called in the sender's thread for each published frame.
        """
        self.failed: BaseException | None = None
        """The defect that ended it."""
        self._destination = destination
        self._payload_ttl = payload_ttl
        self.max_queue = max_queue
        """About how many entries the queue keeps, in all partitions together."""
        self._max_queue = part_of(max_queue, destination.partitions.number)
        self._outbox = Outbox(time.monotonic, max_bytes)
        self._writer = FrameWriter()
        self._backoff = backoff
        self._on_published = on_published
        self._channels: dict[Outlet, Channel] = {}
        self._permissions_checked = False
        self._check_at = -math.inf
        """When the number of partitions is checked again."""
        self._failing_since: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def open(self, stream_name: str, *, size: int = OUTLET_FRAMES, most: int | None = None) -> Channel:
        """Returns a way for the frames of one stream; see :meth:`Outbox.open`."""
        keys = self._destination.keys(stream_name)
        client = self._destination.client(keys)

        def frames(live: bool, waits: bool) -> StreamFrames:
            return StreamFrames(
                client,
                keys,
                stream_name,
                payload_ttl=self._payload_ttl,
                max_queue=self._max_queue,
                live=live,
                waits=waits,
            )

        channel = Channel(self._outbox.open(stream_name, size=size, most=most), frames)
        self._channels[channel.outlet] = channel
        return channel

    def forget(self, channel: Channel) -> None:
        """Forgets a stream whose outlet is done."""
        self._channels.pop(channel.outlet, None)

    @property
    def queue(self) -> str:
        """The key of the queue, or of the one that all partitions together take the place of."""
        return self._destination.partitions.only.frames

    def works(self) -> bool:
        """Returns whether Redis takes frames, as far as is known, and nothing is broken here."""
        return self._failing_since is None and self.failed is None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Sends nothing more; returns False if the thread is in a call that can't be interrupted."""
        self._stopped.set()
        self._outbox.close()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while batch := self._outbox.take(_BATCH_FRAMES, _BATCH_BYTES):
                self._send([(self._channels[outlet], frame) for outlet, frame in batch])
        except PartitionsError as error:
            logger.error("%s", error)
            self._give_up_all(error)
        except Exception as error:
            logger.exception("the sender failed")
            self._give_up_all(error)

    def _send(self, batch: list[tuple[Channel, Captured]]) -> None:
        ready: list[tuple[Channel, Captured, NumberedFrame]] = []
        for channel, frame in batch:
            try:
                channel.numbered = channel.numbered or channel.frames.next(frame)
            except ValueError as error:
                logger.error(
                    "a frame can't be published", extra={"stream": channel.outlet.stream_name, "error": str(error)}
                )
                self._give_up(channel, error)
            else:
                ready.append((channel, frame, channel.numbered))
        if not ready:
            return
        try:
            self._check_partitions()
            self._report_missing_permissions(ready[0][0])
            replies = self._writer.write([numbered for _, _, numbered in ready])
        except redis.RedisError as error:
            replies = [error] * len(ready)
        errors = [reply for reply in replies if isinstance(reply, redis.RedisError)]
        pause = 0.0
        if errors:
            pause = self._backoff.next()
            self._report_failure(errors[0])
        else:
            self._report_success()
        for (channel, frame, _), reply in zip(ready, replies, strict=True):
            self._settle(channel, frame, reply, time.monotonic() + pause)
        if len(errors) == len(ready):  # the others' frames would fare no better
            self._stopped.wait(pause)

    def _settle(self, channel: Channel, frame: Captured, reply: int | redis.RedisError, retry_at: float) -> None:
        if isinstance(reply, redis.RedisError):
            channel.outlet.give_back(retry_at)
        elif reply == FULL:
            self._report_full(channel)
            channel.outlet.give_back(time.monotonic() + _ROOM_S)
        else:
            channel.numbered = None
            channel.pushed_out += max(0, reply - 1)
            self._on_published(channel.outlet.stream_name, frame)
            channel.outlet.settle()

    def _give_up_all(self, error: Exception) -> None:
        self.failed = error
        for channel in list(self._channels.values()):
            self._give_up(channel, error)

    def _give_up(self, channel: Channel, error: Exception) -> None:
        channel.error = error
        channel.outlet.close(discard=True)
        channel.outlet.give_back(0.0)

    def _report_full(self, channel: Channel) -> None:
        if not channel.was_full:  # it may be full again after each frame
            channel.was_full = True
            about = {"stream": channel.outlet.stream_name, "entries": channel.frames.room}
            if channel.frames.live:
                logger.warning("the queue is full; waiting until workers make room", extra=about)
            else:
                logger.info(
                    "as many frames as the workers need wait in the queue; publishing at their pace", extra=about
                )

    def _check_partitions(self) -> None:
        now = time.monotonic()
        if now < self._check_at:
            return
        try:
            self._destination.number.check()
        except redis.RedisError:
            if self._check_at == -math.inf:  # it was never checked, so frames might go where nobody reads them
                raise
        self._check_at = now + CHECK_S

    def _report_missing_permissions(self, channel: Channel) -> None:
        if not self._permissions_checked:
            keys = self._destination.keys(channel.outlet.stream_name)
            probes = publisher_probes(keys, self._destination.partitions)
            log_missing_permissions(missing_permissions(self._destination.client(keys), probes))
            self._permissions_checked = True

    def _report_failure(self, error: redis.RedisError) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            what, about = failure_in_words(error)
            logger.warning("%s; retrying", what, extra={"queue": self.queue, **about})

    def _report_success(self) -> None:
        self._backoff.reset()
        if self._failing_since is not None:
            seconds = round(time.monotonic() - self._failing_since, 1)
            logger.info("Redis works again", extra={"queue": self.queue, "outage_seconds": seconds})
            self._failing_since = None
