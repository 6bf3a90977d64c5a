"""Runs the network in batches of fixed sizes: on a GPU as captured graphs, on a CPU directly.

Everything specific to CUDA is here: tensor cores for the head, graphs, the single copy back. Callers pass at most one
batch at a time, all from one thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from worker.hamer.modeling.hamer import Hamer
from worker.hamer.rows import RowLayout, Rows

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes on a GPU, with a graph for each; smaller batches are padded to the next size."""

CPU_BUCKETS = (1, 2, 4, 8)
"""Batch sizes on a CPU, which gains nothing from more crops at a time; a caller waits for its whole batch."""

RunBatch = Callable[[torch.Tensor], torch.Tensor]
"""Returns the rows (n, length) of crops (n, 3, h, w)."""


class Capture(Protocol):
    """Prepares a function for inputs of one shape; the prepared function takes up to that many crops."""

    def __call__(self, function: RunBatch, shape: tuple[int, ...], device: torch.device, pool: Any) -> "Captured":
        """Returns the prepared function; `pool` is that of an earlier one, whose memory it shares."""
        ...


class Captured(Protocol):
    """A function prepared for one shape."""

    pool: Any

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Returns the rows of up to a batch of crops."""
        ...


class Engine:
    """One network on one device.

    Args:
        model: the network, on its device.
        mesh: also computes the vertices.
        buckets: batch sizes, ascending; by default those for the device.
        capture: prepares each batch size; by default CUDA graphs on a GPU, nothing on a CPU.

    Attributes:
        layout: of the rows.
    """

    def __init__(
        self,
        model: Hamer,
        *,
        mesh: bool = False,
        buckets: tuple[int, ...] | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.model = model
        self.mesh = mesh
        self.layout = RowLayout(vertices=len(model.mano.v_template) if mesh else 0)
        self.device = model.mean.device
        self.buckets = buckets or (BUCKETS if self.device.type == "cuda" else CPU_BUCKETS)
        self._capture = capture or (CudaGraph if self.device.type == "cuda" else None)
        self._captured: dict[int, Captured] = {}
        if self.device.type == "cuda":
            # Sums of a matrix product in 16 bits lose more than the 16-bit weights do.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        self._sixteen_bit = model.backbone.patch_embed.weight.dtype != torch.float32

    @torch.inference_mode()
    def warm_up(self, size: int) -> None:
        """Prepares a batch size, if there is something to prepare: a CPU computes it no faster for a trial.

        Called from the largest to the smallest, the sizes share memory best.
        """
        if not self._capture:
            return
        image = self.model.image_size
        shape = (size, 3, image, image * 3 // 4)
        pool = next((captured.pool for captured in self._captured.values()), None)
        self._captured[size] = self._capture(self._rows, shape, self.device, pool)

    @torch.inference_mode()
    def forward(self, crops: torch.Tensor) -> Rows:
        """Returns the n rows of crops (n, 3, h, w) on the engine's device; n is at most the largest bucket.

        Nothing else waits for the device.
        """
        run: RunBatch = self._rows
        if self._capture:
            size = next(bucket for bucket in self.buckets if bucket >= len(crops))
            if size not in self._captured:
                self.warm_up(size)
            run = self._captured[size]
        rows: Rows = run(crops).cpu().numpy()
        return rows

    @torch.inference_mode()
    def is_finite(self) -> bool:
        """Runs a grey and a noisy picture; returns whether all outputs are finite."""
        image = self.model.image_size
        noise = torch.randn(1, 3, image, image * 3 // 4, generator=torch.Generator().manual_seed(0)).clamp_(-2.5, 2.5)
        crops = torch.cat([torch.zeros_like(noise), noise]).to(self.device)
        return bool(self._rows(crops).isfinite().all())

    def free_memory(self) -> None:
        """Returns cached but unused memory to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # pragma: no cover - needs a GPU

    def _rows(self, crops: torch.Tensor) -> torch.Tensor:
        """Returns all outputs of crops (n, 3, h, w) in rows (n, length)."""
        with _tensor_cores(self._sixteen_bit and self.device.type == "cuda"):
            regressed = self.model.regress(crops)
        return self.layout.join(self.model.pose(*regressed, mesh=self.mesh))


@contextmanager
def _tensor_cores(allowed: bool) -> Iterator[None]:
    """Allows TF32 in float32 products: inputs of ten bits, as many as the float16 features before them have.

    Only for backbone and head: the hand model's metres stay float32.
    """
    before = torch.get_float32_matmul_precision()
    if allowed:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if allowed:
            torch.set_float32_matmul_precision(before)


class CudaGraph:  # pragma: no cover - needs a GPU
    """One batch size's forward as a CUDA graph: about 500 kernels in a single launch. Smaller batches are padded.

    Args:
        function: the function to capture, which neither waits for the device nor branches on values.
        shape: of its input.
        device: a GPU.
        pool: of an earlier graph. Graphs with the same pool share scratch memory, so they can't run at the same time.
    """

    def __init__(self, function: RunBatch, shape: tuple[int, ...], device: torch.device, pool: Any) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._input = torch.zeros(shape, device=device)
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            # On first use libraries allocate memory and choose kernels, which can't be captured.
            with torch.cuda.stream(aside):
                for _ in range(3):
                    function(self._input)
            torch.cuda.current_stream().wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may be cropping on the device meanwhile: only this thread is restricted to what can be captured.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._output = function(self._input)
            self.pool: Any = self._graph.pool()

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Returns the rows of up to a batch of crops; the next call overwrites them."""
        with torch.cuda.device(self._device):  # a new thread starts on the first device
            self._input[: len(crops)].copy_(crops)
            self._graph.replay()
        return self._output[: len(crops)]
