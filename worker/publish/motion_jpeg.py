"""Which packets of motion JPEG are published as they are: those that show what a decoder would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.picture import decode
from worker.picture_header import JPEG_SIGNATURE, PictureError, read_header
from worker.publish.choice import Treatment
from worker.publish.decoding import Decoder, orientation_of
from worker.publish.orientation import UPRIGHT

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream


class MotionJpeg:
    """Compares a packet with its decoded frame whenever the size of the pictures changes.

    A decoder also turns pictures as the container says, weaves the two fields of interlaced ones, and adds tables that the
    JPEGs of some cameras lack.
    """

    def __init__(self, decoder: Decoder) -> None:
        """Takes the decoder of the video."""
        self._decoder = decoder
        self._size = 0, 0
        self._same = False

    def as_it_is(self, packet: Packet[VideoStream]) -> bytes | None:
        """Returns the packet as JPEG, None if it has to be decoded."""
        content = bytes(packet)
        try:
            size = read_header(content)[:2] if content.startswith(JPEG_SIGNATURE) else (0, 0)
        except PictureError:
            return None
        if size != self._size:
            self._size, self._same = size, self._is_shown_so(packet, content)
        return content if self._same else None

    def _is_shown_so(self, packet: Packet[VideoStream], content: bytes) -> bool:
        frames = self._decoder.decode(packet, Treatment.ALONE)
        if len(frames) != 1 or orientation_of(frames[0]) != UPRIGHT:
            return False
        try:
            height, width = decode(content).shape[:2]
        except PictureError:
            return False
        return (width, height) == (frames[0].width, frames[0].height)
