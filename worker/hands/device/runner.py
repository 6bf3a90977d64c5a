"""One network on the device, from rows that describe its inputs to rows that are its answer: on a GPU as captured graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.hands.device.arena import Arena
from worker.hands.device.batch_limit import RECOVERY, BatchLimit
from worker.hands.device.errors import is_out_of_memory
from worker.hands.device.inputs import CROP_COLUMNS, VIEW_COLUMNS, Rows, letterboxed, upright
from worker.hands.device.network import Network as TorchNetwork
from worker.hands.device.tflite import read_graph
from worker.hands.networks import AnchorNetwork, Network

logger = logging.getLogger(__name__)

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes on a GPU, with a graph for each; smaller batches are padded to the next size. More than 64 gain nothing."""

MOST_ANCHORS = 384
"""Anchors of a view that are answered at most, those with the highest scores: more than photos of crowds have."""

Outputs: TypeAlias = NDArray[np.float32]


class Launched(Protocol):
    """A batch that the device computes, or has computed."""

    def wait(self) -> Outputs:
        """Returns the batch's outputs once they are there."""
        ...


class Ready:
    """A batch that is computed."""

    def __init__(self, outputs: Outputs) -> None:
        """Takes its outputs."""
        self._outputs = outputs

    def wait(self) -> Outputs:
        """Returns them."""
        return self._outputs


class Runner:
    """A network with its weights on the device. One thread launches batches."""

    def __init__(
        self,
        network: Network,
        file: Path,
        arena: Arena,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        buckets: tuple[int, ...] = BUCKETS,
        recovery: int = RECOVERY,
    ) -> None:
        """Loads the weights.

        Args:
            network: which one.
            file: its checked file.
            arena: where the pictures are.
            device: a GPU, or a CPU for tests.
            dtype: what the network computes with.
            buckets: batch sizes, ascending; on a CPU only the last one counts.
            recovery: batches without a shortage of memory after which the next larger size is tried again.

        Raises:
            ValueError: the file has parts that the hand models don't have.
        """
        self._network = network
        self._arena = arena
        self._device = device
        self._dtype = dtype
        self._buckets = buckets
        self._limit = BatchLimit(buckets, recovery)
        self._captured: dict[int, Captured] = {}
        self._captured_arena: Tensor | None = None
        self.columns = VIEW_COLUMNS if isinstance(network, AnchorNetwork) else CROP_COLUMNS
        outputs = (0, 1) if isinstance(network, AnchorNetwork) else network.outputs  # type: ignore[attr-defined]
        self._module = TorchNetwork(read_graph(file), outputs).eval().to(device, dtype)

    @property
    def largest(self) -> int:
        """The largest batch at present; it becomes smaller when memory runs out."""
        return self._limit.largest

    @torch.inference_mode()
    def launch(self, rows: Rows) -> Launched:
        """Starts a batch of (N, columns) inputs; N may exceed the largest batch."""
        parts: list[Launched] = []
        while len(rows):
            some = rows[: self.largest]
            try:
                parts.append(self._launch(some))
            except Exception as error:
                if not is_out_of_memory(error) or not self._limit.lower(len(some)):
                    raise
            else:
                self._limit.computed(len(some))
                rows = rows[len(some) :]
                continue
            # Outside the handler: the error's traceback, which holds the failed batch's tensors, has been released.
            self._free_memory()
        return parts[0] if len(parts) == 1 else Joined(parts)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Captures the graphs, from the largest to the smallest batch, in which order they share memory best."""
        for size in reversed(self._buckets):
            if self._device.type == "cuda" and size <= self.largest:
                self.launch(np.zeros((size, self.columns))).wait()

    def compute(self, rows: Tensor) -> Tensor:
        """Returns the answers to (N, columns) rows on the device: (N, anchors, 2 + numbers) or (N, columns) float32."""
        network, pixels = self._network, self._arena.pixels
        if isinstance(network, AnchorNetwork):
            outputs = self._outputs(letterboxed(pixels, rows, network.size))
            numbers, logits = (
                next(each for each in outputs if each.shape[2] == width) for width in (network.numbers, 1)
            )
            best, anchors = logits[:, :, 0].topk(min(MOST_ANCHORS, logits.shape[1]), dim=1)
            chosen = numbers.gather(1, anchors[:, :, None].expand(-1, -1, network.numbers))
            return torch.cat([anchors[:, :, None].float(), best[:, :, None], chosen], dim=2)
        return torch.cat([each.flatten(1) for each in self._outputs(upright(pixels, rows, network.size))], dim=1)

    def _outputs(self, pictures: Tensor) -> list[Tensor]:
        values = pictures * self._network.scale + self._network.offset
        with _float32_convolutions():
            return [each.float() for each in self._module(values.to(self._dtype))]

    def _launch(self, rows: Rows) -> Launched:
        if self._device.type == "cpu":
            return Ready(self.compute(torch.from_numpy(rows)).numpy())
        return self._launch_graph(rows)  # pragma: no cover - needs a GPU

    def _launch_graph(self, rows: Rows) -> Launched:  # pragma: no cover - needs a GPU
        if self._captured_arena is not self._arena.pixels:
            self._captured.clear()  # the arena has grown, and graphs read the old one
            self._captured_arena = self._arena.pixels
        size = next(bucket for bucket in self._buckets if bucket >= len(rows))
        if size not in self._captured:
            pool = next((captured.pool for captured in self._captured.values()), None)
            self._captured[size] = Captured(self.compute, (size, self.columns), self._device, pool)
        return self._captured[size].launch(rows)

    def _free_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # pragma: no cover - needs a GPU
        about = {"network": self._network.file, "limit": self.largest}
        logger.warning("out of memory; the detector continues with smaller batches", extra=about)


class Joined:
    """A batch that was launched in parts."""

    def __init__(self, parts: list[Launched]) -> None:
        """Takes its parts."""
        self._parts = parts

    def wait(self) -> Outputs:
        """Returns the outputs of all parts."""
        return np.concatenate([part.wait() for part in self._parts])


class Captured:  # pragma: no cover - needs a GPU
    """A computation for one batch size as a CUDA graph: hundreds of kernels in a single launch.

    Args:
        function: neither waits for the device nor branches on values.
        shape: of its float64 input.
        device: a GPU.
        pool: of an earlier graph. Graphs with the same pool share scratch memory, so they run one after the other.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device, pool: Any
    ) -> None:
        self._input = torch.zeros(shape, dtype=torch.float64, device=device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        # On first use libraries allocate memory and choose kernels, which can't be captured.
        with torch.cuda.stream(aside):
            for _ in range(3):
                function(self._input)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may be copying pictures meanwhile: only this thread is restricted to what can be captured.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._output = function(self._input)
        self.pool: Any = self._graph.pool()

    def launch(self, rows: Rows) -> Launched:
        """Starts a batch of up to the shape's size, and the copy of its outputs into pinned memory."""
        self._input[: len(rows)].copy_(torch.from_numpy(rows).pin_memory(), non_blocking=True)
        self._graph.replay()
        outputs = torch.empty((len(rows), *self._output.shape[1:]), pin_memory=True)
        outputs.copy_(self._output[: len(rows)], non_blocking=True)
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record()
        return Copied(outputs, done)


class Copied:  # pragma: no cover - needs a GPU
    """A batch whose outputs are on their way into pinned memory."""

    def __init__(self, outputs: Tensor, done: torch.cuda.Event) -> None:
        """Takes where they go, and what says that they are there."""
        self._outputs = outputs
        self._done = done

    def wait(self) -> Outputs:
        """Returns them."""
        self._done.synchronize()
        outputs: Outputs = self._outputs.numpy()
        return outputs


@contextmanager
def _float32_convolutions() -> Iterator[None]:
    """Keeps float32 convolutions from being computed in TF32, which is what cuDNN does unless it is told otherwise."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield
