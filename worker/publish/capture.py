"""Reads an open film or camera: from its packets to frames that are encoded when they are due."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol

import av

from worker.publish.choice import Part, Selection, Treatment
from worker.publish.container import Nature, clock_may_change, nature_of, open_container, video_of
from worker.publish.decoding import TURNS, Converter, Decoder, threads_for
from worker.publish.failure import undecodable, why_ended
from worker.publish.motion_jpeg import MotionJpeg
from worker.publish.nal import References
from worker.publish.options import Reception
from worker.publish.source import Encode, SourceFrame
from worker.publish.thinning import Due

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

UNKNOWN_FPS = 25.0
"""Of films that don't tell their rate."""


_PRODUCED = struct.Struct("@q")
"""The beginning of FFmpeg's AVProducerReferenceTime: microseconds since 1970."""


class Times(Protocol):
    """From positions in a source to capture times."""

    def begin(self) -> None:
        """Notes that positions begin anew."""
        ...

    def told(self, position: float, captured_at: float) -> None:
        """Takes the source's own capture time, Unix seconds, of the frame at a position, seconds or NaN."""
        ...

    def arrives(self, position: float) -> float:
        """Takes the position of the next packet, seconds or NaN; returns its frame's capture time as known now."""
        ...

    def left_out(self, position: float) -> float:
        """Does the same for a packet whose frame won't be decoded."""
        ...

    def ts(self, position: float) -> float:
        """Returns the capture time of the next frame, Unix seconds."""
        ...


class Capture:
    """An open film or camera. For one thread, which it may block for as long as the time-out."""

    def __init__(self, container: InputContainer, name: str, reception: Reception, hurries: bool = False) -> None:
        """Takes an open container, which it closes, and whether it is to be read as fast as possible.

        Raises:
            SourceError: there is no video in it that can be decoded.
        """
        self._container = container
        try:
            self._video = video = video_of(container, name)
        except BaseException:
            container.close()
            raise
        context = video.codec_context
        self.nature = nature_of(container)
        self.clock_may_change = clock_may_change(container)
        self.codec = context.codec.canonical_name
        self.error: BaseException | None = None
        """What ended the reading, None for the end of the source."""
        self.arrived = 0
        """Packets so far."""
        self._timeout = reception.timeout
        threads = threads_for(context.width, context.height, self.fps or UNKNOWN_FPS, hurries)
        self._decoder = Decoder(video, threads, pauses=self.nature is Nature.CAMERA)
        self._turns: AbstractContextManager[object] = TURNS if self.nature is Nature.CAMERA else nullcontext()
        self._converter = Converter()
        self._references = References(self.codec, context.extradata)
        self._jpeg = MotionJpeg(self._decoder) if self.codec == "mjpeg" else None
        self._passed_on = 0
        self._undecoded = 0

    @property
    def fps(self) -> float | None:
        """The nominal frames per second, None if the source has none."""
        fps = float(self._video.average_rate or self._video.guessed_rate or 0)
        return fps if 0 < fps <= 1000 else None

    @property
    def fruitless(self) -> bool:
        """Whether packets were to be decoded, but no frame came out."""
        return bool(self._undecoded) and not self._decoder.decoded and not self._passed_on

    @property
    def why_ended(self) -> str:
        """Says why there are no more frames."""
        return undecodable(self.codec) if self.fruitless else why_ended(self.error, self._timeout)

    def frames(self, times: Times, due: Due, encode: Encode, stop: threading.Event) -> Iterator[SourceFrame]:
        """Yields the frames until `stop` is set; without a picture those that aren't due and others don't refer to."""
        times.begin()
        selection = Selection(self._decoder.whole_frames, self._decoder.holds)
        for packet in self._packets():
            if stop.is_set():
                return
            position = self._position(packet.pts)
            self.arrived += 1
            if produced := packet.get_sidedata("prft"):
                times.told(position, _PRODUCED.unpack_from(bytes(produced))[0] / 1e6)
            if self._jpeg and (content := self._jpeg.as_it_is(packet)):
                self._passed_on += 1
                times.arrives(position)
                yield SourceFrame(times.ts(position), partial(bytes, content))
                continue
            is_reference = packet.is_keyframe or (not packet.is_disposable and self._is_reference(packet))
            part = Part(times.arrives(position), position, packet.is_keyframe, is_reference)
            how = selection.treat(part, due)
            if how is Treatment.LEAVE_OUT:
                if selection.waits_for_key:
                    self._decoder.pause()
                yield SourceFrame(times.left_out(position), None)
                continue
            if how is Treatment.HOLD:
                if self._decoder.hold(packet, selection.decodes_again(due.fps())):
                    with self._turns:
                        yield from self._shown(self._decoder.catch_up(), times, encode)
                yield SourceFrame(times.left_out(position), None)
                continue
            self._undecoded += 1
            with self._turns:
                yield from self._shown(self._decoder.decode(packet, how), times, encode)
        yield from self._shown(self._decoder.drain(), times, encode)

    def close(self) -> None:
        """Closes the film or camera."""
        self._container.close()

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        try:
            for packet in self._container.demux(self._video):
                if packet.size:  # the last one is empty
                    yield packet
        except (av.FFmpegError, OSError) as error:
            self.error = error

    def _encoded(self, frame: VideoFrame, encode: Encode) -> bytes:
        return encode(self._converter.picture(frame))

    def _position(self, pts: int | None) -> float:
        """Returns seconds. A frame's own time base is wrong if it comes out at the end."""
        base = self._video.time_base
        return math.nan if pts is None or base is None else pts * base.numerator / base.denominator

    def _is_reference(self, packet: Packet[VideoStream]) -> bool:
        return self._references.is_reference(memoryview(packet))

    def _shown(self, frames: Sequence[VideoFrame], times: Times, encode: Encode) -> Iterator[SourceFrame]:
        for frame in frames:
            yield SourceFrame(times.ts(self._position(frame.pts)), partial(self._encoded, frame, encode))


def open_capture(opens: str, name: str, reception: Reception, hurries: bool = False) -> Capture:
    """Opens a file or a URL. Errors have the name instead, because the URL may hold a password. Raises SourceError."""
    return Capture(open_container(opens, name, reception), name, reception, hurries)
