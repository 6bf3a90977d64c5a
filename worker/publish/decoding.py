"""Decodes the packets that are wanted, and shows their frames as a decoder does: turned, at their own size."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from process.cpus import cpus
from worker.picture import Picture
from worker.publish.choice import Treatment
from worker.publish.orientation import UPRIGHT, Orientation, orientation, turned

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_PROGRESSIVE = (0, 1)
"""FFmpeg's field orders of a video whose packets are whole frames: unknown and progressive."""

_ONE_THREAD = 1920 * 1088 * 31
"""Pixels per second that one thread decodes with ease. More threads make frames come out later by one each."""

_MOST_THREADS = 4

_MOST_HELD = 1024 * 1024
"""Bytes of packets that are held for one video. About two seconds of a camera, and a tenth of what a decoder of 1080p needs."""

_MOST_AGAIN = 8
"""Packets that may be decoded a second time for one frame."""

_NOT_SHOWN = -(1 << 40)
"""The timestamp of packets whose frames nobody waits for. Decoders hand timestamps on as they are."""

_SELF_CONTAINED = ("h264", "hevc")
"""Codecs whose parameters are in the stream or its extradata, so that another decoder can take over at any key frame."""

_SMALL = 16
"""Pixels each way."""

TURNS = threading.BoundedSemaphore(cpus())
"""Held while a camera's frame is decoded, converted and encoded: cameras whose key frames arrive at the same time would
otherwise all need the memory for that, and finish no sooner."""


class Decoder:
    """The decoder of one video."""

    def __init__(self, video: VideoStream, threads: int, pauses: bool = False) -> None:
        """Takes a video that hasn't been read yet, and whether its memory is given back while nothing is decoded.

        Between two key frames of a limited camera that is most of the time, and the pictures in a decoder are most of what a
        camera needs. That costs a new decoder for each group of pictures that is decoded, which is little.
        """
        self.decoded = 0
        """Frames so far."""
        self._stream_context = video.codec_context
        self._threads = threads
        self._pauses = pauses and self._stream_context.codec.canonical_name in _SELF_CONTAINED
        self._context: VideoCodecContext | None = None if self._pauses else self._set_up(self._stream_context)
        self._draining = False
        self._since_key: list[Packet[VideoStream]] | None = []
        """What was decoded since the last key frame, without what is held; None if that is too much to decode it again."""
        self._held: list[Packet[VideoStream]] = []

    @property
    def holds(self) -> bool:
        """Whether packets may be held."""
        return self._pauses

    @property
    def whole_frames(self) -> bool:
        """Whether each packet is a frame: of an interlaced video it may be half of one."""
        return self._stream_context.field_order in _PROGRESSIVE

    def hold(self, packet: Packet[VideoStream], again: int) -> bool:
        """Keeps a packet until one that refers to it is decoded. Gives back the memory of the decoder, if that is worth it.

        Args:
            packet: its frame is never shown, nor are those that are still in the decoder when its memory is given back:
                a frame that is due isn't followed by one that isn't before it is shown.
            again: how many packets may be decoded twice for that.

        Returns:
            Whether so much is held that it is to be decoded: see :meth:`catch_up`.
        """
        if packet.is_keyframe:
            self.pause()
        elif self._context and self._since_key is not None and len(self._since_key) <= again:
            self._held = self._since_key + self._held
            self._context, self._draining, self._since_key = None, False, []
        self._held.append(packet)
        return sum(each.size for each in self._held) > _MOST_HELD

    def catch_up(self) -> Sequence[VideoFrame]:
        """Decodes what is held; returns the frames of packets before it that come out."""
        held, self._held = self._held, []
        frames: list[VideoFrame] = []
        for packet in held:
            packet.pts = _NOT_SHOWN
            frames += self._decode(packet)
        return frames

    def decode(self, packet: Packet[VideoStream], how: Treatment) -> Sequence[VideoFrame]:
        """Returns the frames that come out when a packet goes in, in the order in which they are shown."""
        if how is not Treatment.DECODE:
            self._held, self._since_key = [], []
        if self._context and (self._draining or how is not Treatment.DECODE):
            self._context.flush_buffers()
            self._draining = False
        frames = [*self.catch_up(), *self._decode(packet)]
        if how is Treatment.ALONE:
            frames += self.drain()
            self.pause()
        return frames

    def pause(self) -> None:
        """Gives the memory back, if that is worth it. After that, decoding can only begin at a key frame."""
        if self._pauses:
            self._context, self._draining = None, False
            self._held, self._since_key = [], []

    def drain(self) -> Sequence[VideoFrame]:
        """Returns the frames that are left in it. After that, decoding can only begin at a key frame."""
        if self._draining or self._context is None:
            return []
        self._draining = True
        return self._decode(None)

    def _decode(self, packet: Packet[VideoStream] | None) -> Sequence[VideoFrame]:
        if self._context is None:
            self._context = self._fresh()
        if packet and self._since_key is not None:
            self._since_key = [*self._since_key, packet] if len(self._since_key) < _MOST_AGAIN else None
        try:
            frames = self._context.decode(packet)
        except (av.FFmpegError, ValueError):  # a damaged packet; what follows may be whole
            return []
        self.decoded += len(frames)
        return [frame for frame in frames if frame.pts != _NOT_SHOWN]

    def _fresh(self) -> VideoCodecContext:
        """Returns a decoder like the stream's own."""
        own = self._stream_context
        context = cast("VideoCodecContext", av.CodecContext.create(own.codec.name, "r"))
        context.extradata = own.extradata
        context.reorder_depth = own.reorder_depth
        return self._set_up(context)

    def _set_up(self, context: VideoCodecContext) -> VideoCodecContext:
        context.thread_count = self._threads
        context.thread_type = "NONE" if self._threads == 1 else "FRAME"
        return context


def threads_for(width: int, height: int, fps: float, hurries: bool) -> int:
    """Returns how many threads decode a video. One costs the least and delays nothing.

    Args:
        width: pixels.
        height: pixels.
        fps: frames per second that must be decoded in time.
        hurries: whether it is to be decoded as fast as possible.
    """
    most = min(_MOST_THREADS, os.cpu_count() or 1)
    return most if hurries or width * height * fps > _ONE_THREAD else 1


def orientation_of(frame: VideoFrame) -> Orientation:
    """Returns how a frame is turned before it is shown."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else orientation(bytes(matrix))  # type: ignore[call-overload]  # its class is a buffer


class Converter:
    """Converts frames to pictures, as they are shown; keeps what FFmpeg prepares for a size and format."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._seen: tuple[int, int, int] | None = None
        """Rotation, width and height of the frames whose orientation is known."""
        self._orientation = UPRIGHT

    def picture(self, frame: VideoFrame) -> Picture:
        """Returns a frame as a picture of its own size, turned as its source says."""
        converted = self._reformatter.reformat(frame, format="bgr24", threads=1)
        plane = converted.planes[0]
        rows: Picture = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        picture = rows[: frame.height, : frame.width * 3].reshape(
            frame.height, frame.width, 3
        )  # a copy only if there is padding
        seen = frame.rotation, frame.width, frame.height
        if seen != self._seen:
            # Not with each frame, and of a small copy: PyAV's side data refers to its frame and back, so both stay until a
            # collection, which may be long. Those would be most of the memory of many cameras.
            small = self._reformatter.reformat(frame, width=_SMALL, height=_SMALL, format="gray", threads=1)
            self._seen, self._orientation = seen, orientation_of(small)
        return turned(picture, self._orientation)
