"""What HaMeR needs of its device: two CUDA streams, and events that say how far they are.

A CUDA stream is a queue of work for the device: what is started on it runs in order while the thread goes on. Pictures are
uploaded and cropped on one stream and batches computed on the other, so that neither waits for the other's work. A CPU has no
streams: there everything is done when the call returns. What uses them is the same for both, and for a device in a test.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Computation = Callable[[torch.Tensor], torch.Tensor]
"""Returns one row for each of a batch's crops (n, 3, h, w). It neither waits for the device nor branches on values."""


class Event(Protocol):
    """A place in a stream's work."""

    def synchronize(self) -> None:
        """Waits until the device has done what was started before."""
        ...


class Cropped(NamedTuple):
    """The crops of a frame, which the device may still be making."""

    pixels: torch.Tensor
    """(n, 3, h, w) float32, on the device."""
    ready: Event
    """Behind the work that makes them."""


class Launched(NamedTuple):
    """A batch that the device computes, or has computed."""

    rows: torch.Tensor
    """In host memory; they mean nothing before the event."""
    done: Event

    def wait(self) -> NDArray[np.float32]:
        """Returns the rows once they are there."""
        self.done.synchronize()
        rows: NDArray[np.float32] = self.rows.numpy()
        return rows


class Captured(Protocol):
    """A computation that is prepared for one batch size."""

    pool: Any

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Returns the rows of up to a batch of crops; the next call overwrites them."""
        ...


class Streams(Protocol):
    """The two streams of a device. For any thread."""

    has_graphs: bool
    """Whether `capture` prepares anything."""

    def uploading(self) -> AbstractContextManager[object]:
        """Has what the block starts run on the stream of pictures and crops."""
        ...

    def computing(self) -> AbstractContextManager[object]:
        """Has what the block starts run on the stream of batches."""
        ...

    def upload(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Starts to copy a picture to the device. The array may be changed once the call has returned."""
        ...

    def download(self, rows: torch.Tensor) -> torch.Tensor:
        """Starts to copy rows to host memory. Returns where they go."""
        ...

    def record(self) -> Event:
        """Returns an event behind what has been started on the current stream."""
        ...

    def wait(self, event: Event) -> None:
        """Has the current stream wait for an event of the other one; the thread goes on."""
        ...

    def capture(self, function: Computation, shape: tuple[int, ...], pool: Any) -> Captured | None:
        """Prepares a computation for inputs of one shape.

        Args:
            function: the computation.
            shape: of its input.
            pool: that of an earlier one, whose memory it shares; None for the first.

        Returns:
            The prepared computation; None if this device gains nothing from it.
        """
        ...

    def free_memory(self) -> None:
        """Returns cached but unused memory to the device."""
        ...


class _Past:
    """An event that has occurred."""

    def synchronize(self) -> None:
        """Returns."""


class HostStreams:
    """A CPU: everything is done when the call returns."""

    has_graphs = False

    def uploading(self) -> AbstractContextManager[object]:
        """Changes nothing."""
        return nullcontext()

    def computing(self) -> AbstractContextManager[object]:
        """Changes nothing."""
        return nullcontext()

    def upload(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Returns the picture itself: its crops are made before the next call."""
        # torch requires writable memory, though nothing is written; so a read-only picture is copied, no other.
        return torch.from_numpy(np.require(image, requirements=["C", "W"]))

    def download(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the rows."""
        return rows

    def record(self) -> Event:
        """Returns an event that has occurred."""
        return _Past()

    def wait(self, event: Event) -> None:
        """Returns: the event has occurred."""

    def capture(self, function: Computation, shape: tuple[int, ...], pool: Any) -> Captured | None:  # noqa: ARG002
        """Returns None: a CPU computes nothing faster for a trial."""
        return None

    def free_memory(self) -> None:
        """Does nothing: memory that is freed is the system's again."""


def streams_of(device: torch.device) -> Streams:
    """Returns the streams of a device."""
    return CudaStreams(device) if device.type == "cuda" else HostStreams()


class CudaStreams:  # pragma: no cover - needs a GPU
    """Two streams of a GPU. They see what the default stream was given before they were made, for example the weights."""

    has_graphs = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Crops are small and everything waits for them: they come before the next kernel of a batch.
        self._uploading = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._computing = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        for stream in (self._uploading, self._computing):
            stream.wait_stream(torch.cuda.current_stream(device))

    def uploading(self) -> AbstractContextManager[object]:
        """Has what the block starts run on the stream of pictures and crops."""
        return torch.cuda.stream(self._uploading)

    def computing(self) -> AbstractContextManager[object]:
        """Has what the block starts run on the stream of batches."""
        return torch.cuda.stream(self._computing)

    def upload(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Copies the picture into pinned memory, from where the device fetches it without this thread.

        torch keeps the pinned memory from being used again before the device has fetched it.
        """
        pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
        np.copyto(pinned.numpy(), image)
        return pinned.to(self._device, non_blocking=True)

    def download(self, rows: torch.Tensor) -> torch.Tensor:
        """Starts to copy rows into pinned memory, before a later batch may overwrite them: on the same stream."""
        pinned = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        return pinned.copy_(rows, non_blocking=True)

    def record(self) -> Event:
        """Returns an event behind what has been started on the current stream; a wait for it takes no CPU."""
        event: Event = torch.cuda.current_stream(self._device).record_event(torch.cuda.Event(blocking=True))  # type: ignore[no-untyped-call]
        return event

    def wait(self, event: Event) -> None:
        """Has the current stream wait for an event of the other one; the thread goes on."""
        torch.cuda.current_stream(self._device).wait_event(event)  # type: ignore[arg-type]

    def capture(self, function: Computation, shape: tuple[int, ...], pool: Any) -> Captured | None:
        """Captures a CUDA graph."""
        return CudaGraph(function, shape, self._device, pool)

    def free_memory(self) -> None:
        """Returns cached but unused memory to the device."""
        torch.cuda.empty_cache()


class CudaGraph:  # pragma: no cover - needs a GPU
    """One batch size's forward as a CUDA graph: about 500 kernels in a single launch. Smaller batches are padded.

    Args:
        function: the function to capture, which neither waits for the device nor branches on values.
        shape: of its input.
        device: a GPU.
        pool: of an earlier graph. Graphs with the same pool share scratch memory, so they can't run at the same time.
    """

    def __init__(self, function: Computation, shape: tuple[int, ...], device: torch.device, pool: Any) -> None:
        self._input = torch.zeros(shape, device=device)
        current = torch.cuda.current_stream(device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(current)
        # On first use libraries allocate memory and choose kernels, which can't be captured.
        with torch.cuda.stream(aside):
            for _ in range(3):
                function(self._input)
        current.wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may be cropping on the device meanwhile: only this thread is restricted to what can be captured.
        with torch.cuda.graph(self._graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            self._output = function(self._input)
        self.pool: Any = self._graph.pool()

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Returns the rows of up to a batch of crops; the next call overwrites them."""
        self._input[: len(crops)].copy_(crops)
        self._graph.replay()
        return self._output[: len(crops)]
