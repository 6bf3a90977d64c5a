"""The pictures in progress on the device: one block of pixels, into which each picture is copied once, with its pyramid.

Whatever sizes the pictures have, one index finds any pixel of any of them. So inputs of many pictures are cut in one step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hands.device.rooms import Rooms
from worker.hands.pyramid import halved, level_size, levels

PIXELS = 72_000_000
"""Room for about 58 pictures of 1280 x 720, or for one of 50 million pixels; 216 MB."""


@dataclass(frozen=True)
class Placed:
    """A picture in the arena."""

    width: int
    height: int
    starts: tuple[int, ...]
    """The pixel at which each level begins."""
    length: int
    """Pixels of all levels."""
    uploaded: Any = field(default=None, repr=False)
    """A CUDA event, recorded behind the copy; None on a CPU."""


def level_starts(width: int, height: int) -> tuple[list[int], int]:
    """Returns the pixel at which each level of a picture begins, one after the other, and the pixels of all of them."""
    starts, length = [], 0
    for level in range(levels(width, height)):
        starts.append(length)
        columns, rows = level_size(level, width, height)
        length += columns * rows
    return starts, length


class Arena:
    """The block. For any thread.

    On a GPU it has a twin in pinned memory, which pictures pass through: such a copy runs beside the device's work.
    """

    def __init__(self, device: torch.device, pixels: int = PIXELS) -> None:
        """Reserves room for this many pixels."""
        self._device = device
        self._changed = threading.Condition()
        self._is_growing = False
        self._readers: list[Any] = []
        """Events behind what reads pictures whose room is free already: the device may not have reached them yet."""
        self._reserve(pixels)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @property
    def pixels(self) -> torch.Tensor:
        """(N, 3) uint8, BGR, on the device; another tensor after the arena has grown."""
        return self._pixels

    def place(self, image: NDArray[np.uint8]) -> Placed:
        """Copies a picture (H, W, 3) uint8 BGR, and its pyramid; waits until there is room.

        The arena grows for a picture that wouldn't fit even alone.
        """
        height, width = image.shape[:2]
        starts, length = level_starts(width, height)
        with self._changed:
            start = self._take(length)
            self._await_readers()
        try:
            host = self._host[start : start + length].numpy()
            source = image
            for level, begin in enumerate(starts):
                columns, rows = level_size(level, width, height)
                out = host[begin : begin + columns * rows].reshape(rows, columns, 3)
                if level:
                    halved(source, out)
                else:
                    out[:] = image
                source = out
            uploaded = self._upload(start, length)
        except BaseException:
            self._free(start, length)
            raise
        return Placed(width, height, tuple(start + begin for begin in starts), length, uploaded)

    def release(self, placed: Placed, after: Any = None) -> None:
        """Frees a picture's room.

        Args:
            placed: the picture.
            after: an event of the device behind all that still reads the picture; None: nothing does.
        """
        self._free(placed.starts[0], placed.length, after)

    def _take(self, length: int) -> int:
        if length > self._rooms.size:
            self._wait(lambda: not self._is_growing)
            self._is_growing = True  # so that no other picture comes in while this one waits
            try:
                self._wait(lambda: self._rooms.is_empty)
                if length > self._rooms.size:
                    for event in self._readers:
                        event.synchronize()  # the memory that they read is freed now
                    self._readers.clear()
                    self._reserve(length)
            finally:  # without memory for it, the others still have the room that there was
                self._is_growing = False
                self._changed.notify_all()
        while True:
            self._wait(lambda: not self._is_growing)
            if (start := self._rooms.take(length)) is not None:
                return start
            self._changed.wait()

    def _wait(self, until: Callable[[], bool]) -> None:
        self._changed.wait_for(until)

    def _await_readers(self) -> None:
        """Makes what follows, the copy of another picture, wait for what still reads the room's last one."""
        for event in self._readers:
            if self._stream is None:
                event.synchronize()
            else:
                self._stream.wait_event(event)  # pragma: no cover - needs a GPU
        self._readers.clear()

    def _free(self, start: int, length: int, after: Any = None) -> None:
        with self._changed:
            if after is not None:
                self._readers.append(after)
            self._rooms.free(start, length)
            self._changed.notify_all()

    def _reserve(self, pixels: int) -> None:
        on_gpu = self._device.type == "cuda"
        on_device = torch.empty((pixels, 3), dtype=torch.uint8, device=self._device)
        host = torch.empty((pixels, 3), dtype=torch.uint8, pin_memory=True) if on_gpu else on_device
        self._rooms, self._pixels, self._host = Rooms(pixels), on_device, host

    def _upload(self, start: int, length: int) -> Any:
        if self._stream is None:
            return None
        with torch.cuda.stream(self._stream):  # pragma: no cover - needs a GPU
            part = slice(start, start + length)
            self._pixels[part].copy_(self._host[part], non_blocking=True)
            return self._stream.record_event()


class InArena:
    """A picture in the arena that its holder frees. For any thread."""

    def __init__(self, arena: Arena, placed: Placed) -> None:
        """Takes over the picture."""
        self._arena = arena
        self._placed: Placed | None = placed
        self._lock = threading.Lock()

    @property
    def pixels(self) -> torch.Tensor:
        """(H, W, 3) uint8, BGR, on the device: the arena's own memory, which has other pictures after `free`.

        Raises:
            RuntimeError: it is freed.
        """
        placed = self._placed
        if placed is None:
            raise RuntimeError("the picture's room is freed")
        start, width, height = placed.starts[0], placed.width, placed.height
        return self._arena.pixels[start : start + width * height].view(height, width, 3)

    def free(self, after: Any = None) -> None:
        """Frees the room, see `Arena.release`; a second call does nothing."""
        with self._lock:
            placed, self._placed = self._placed, None
        if placed is not None:
            self._arena.release(placed, after)
