"""Which packets of H.264 and HEVC other pictures refer to, from the first bytes of their slices. Pure.

A picture that no other one refers to can be left out without a trace: the rest decodes as before.
"""

from __future__ import annotations

from collections.abc import Callable

_SEARCHED = 4096
"""Bytes of a packet in which its first slice is looked for; only parameter sets and messages precede it."""

_START_CODE = b"\0\0\1"


class References:
    """Tells whether a packet holds a picture that others refer to. A packet of an unknown form counts as one."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        """Takes the codec's name as FFmpeg has it, and its configuration, which says how slices are separated."""
        self._reads: Callable[[bytes], bool | None] | None = {"h264": _h264, "hevc": self._hevc}.get(codec)
        self._length_size = _length_size(codec, extradata or b"")
        self._highest_layer = 0

    def is_reference(self, packet: bytes | memoryview) -> bool:
        """Returns False if no other picture refers to that of this packet."""
        if self._reads is None:
            return True
        data = bytes(packet[:_SEARCHED])
        for unit in _units(data, self._length_size):
            if (found := self._reads(unit)) is not None:
                return found
        return True

    def _hevc(self, unit: bytes) -> bool | None:
        """Reads a unit's header, ITU-T H.265 7.3.1.2 and table 7-1: even types below 16 are sub-layer non-references.

        Pictures of higher temporal layers may refer to such a picture, so it can be left out in the highest layer only.
        """
        kind, layer = (unit[0] >> 1) & 0x3F, unit[1] & 7
        if kind >= 32:
            return None
        self._highest_layer = max(self._highest_layer, layer)
        return kind >= 16 or kind % 2 == 1 or layer < self._highest_layer


def _h264(unit: bytes) -> bool | None:
    """Reads a unit's header, ITU-T H.264 7.3.1: a slice with nal_ref_idc 0 isn't referred to."""
    return bool(unit[0] & 0x60) if 1 <= unit[0] & 0x1F <= 5 else None


def _length_size(codec: str, extradata: bytes) -> int:
    """Returns the bytes of each unit's length, 0 if start codes separate the units (ISO/IEC 14496-15, 5.3.3 and 8.3.3)."""
    at = {"h264": 4, "hevc": 21}.get(codec, 0)
    return (extradata[at] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > at else 0


def _units(data: bytes, length_size: int) -> list[bytes]:
    """Returns the first two bytes of each unit."""
    units: list[bytes] = []
    at = 0
    while True:
        if length_size:
            start = at + length_size
            end = start + int.from_bytes(data[at:start], "big")
        else:
            found = data.find(_START_CODE, at)
            start = end = found + 3 if found >= 0 else len(data)
        if start + 2 > len(data) or end < start:
            return units
        units.append(data[start : start + 2])
        at = end
