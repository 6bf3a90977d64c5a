"""Runs the network in batches of fixed sizes: on a GPU as captured graphs, on a CPU directly.

One thread launches batches, and any thread may wait for them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from worker.hamer.bfloat16 import in_bfloat16
from worker.hamer.modeling.hamer import Hamer
from worker.hamer.rows import RowLayout, Rows
from worker.hamer.streams import Captured, Computation, Cropped, Launched, Streams, streams_of
from worker.hamer.tuning import Compile, Tuning, tune

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes on a GPU, with a graph for each; smaller batches are padded to the next size."""

CPU_BUCKETS = (1, 2, 4, 8)
"""Batch sizes on a CPU, which gains nothing from more crops at a time; a caller waits for its whole batch."""


class Engine:
    """One network on one device.

    Args:
        model: the network, on its device.
        mesh: also computes the vertices.
        buckets: batch sizes, ascending; by default those for the device.
        streams: those of the device; by default the real ones.

    Attributes:
        layout: of the rows.
        tuning: how the backbone runs.
        streams: as passed in.
        has_wide_range: whether `launch` has another number format to offer for crops whose rows aren't finite.
    """

    def __init__(
        self,
        model: Hamer,
        *,
        mesh: bool = False,
        buckets: tuple[int, ...] | None = None,
        streams: Streams | None = None,
    ) -> None:
        self.model = model
        self.mesh = mesh
        self.layout = RowLayout(vertices=len(model.mano.v_template) if mesh else 0)
        self.device = model.mean.device
        self.buckets = buckets or (BUCKETS if self.device.type == "cuda" else CPU_BUCKETS)
        self.streams = streams or streams_of(self.device)
        self.tuning = Tuning()
        self._captured: dict[int, Captured] = {}
        if self.device.type == "cuda":
            # Sums of a matrix product in 16 bits lose more than the 16-bit weights do.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        matrices = model.backbone.patch_embed.weight.dtype
        self._sixteen_bit = matrices != torch.float32
        self.has_wide_range = matrices == torch.float16
        self._wide: Hamer | None = None

    def tune(self, mode: Compile, folder: Path | None) -> None:
        """Measures how the backbone runs fastest, before the first batch, or looks it up; on a CPU measures nothing.

        Args:
            mode: whether torch.compile may be or must be used.
            folder: where the answer is kept for later starts; None: nowhere.

        Raises:
            CompileError: the compiler must be used, and fails.
        """
        self.tuning = tune(self.model, self.streams, batch=self.buckets[-1], mode=mode, folder=folder)

    @torch.inference_mode()
    def warm_up(self, size: int) -> None:
        """Prepares a batch size, if there is something to prepare: a CPU computes it no faster for a trial.

        Called from the largest to the smallest, the sizes share memory best.
        """
        image = self.model.image_size
        shape = (size, 3, image, image * 3 // 4)
        pool = next((captured.pool for captured in self._captured.values()), None)
        with self.streams.computing():
            captured = self.streams.capture(self._rows, shape, pool)
        if captured:
            self._captured[size] = captured

    @torch.inference_mode()
    def join(self, parts: Sequence[Cropped]) -> torch.Tensor:
        """Returns the crops of several frames as one tensor (n, 3, h, w), for `launch`."""
        with self.streams.computing():
            for part in parts:
                self.streams.wait(part.ready)
            return torch.cat([part.pixels for part in parts])

    @torch.inference_mode()
    def launch(self, crops: torch.Tensor, *, wide_range: bool = False) -> Launched:
        """Starts a batch.

        Args:
            crops: (n, 3, h, w) on the engine's device; n is at most the largest bucket.
            wide_range: computes in bfloat16, which reaches as far as float32: for crops that overflow float16.

        Returns:
            What the n rows can be waited for with.
        """
        with self.streams.computing():
            rows = self.streams.download(self._compute(crops, wide_range))
            return Launched(rows, self.streams.record())

    def forward(self, crops: torch.Tensor) -> Rows:
        """Returns the n rows of crops (n, 3, h, w) on the engine's device; n is at most the largest bucket.

        The crops may still be in the making, on the current stream.
        """
        ready = self.streams.record()
        with self.streams.computing():
            self.streams.wait(ready)
        return self.launch(crops).wait()

    @torch.inference_mode()
    def is_finite(self) -> bool:
        """Runs a grey and a noisy picture; returns whether all outputs are finite."""
        image = self.model.image_size
        noise = torch.randn(1, 3, image, image * 3 // 4, generator=torch.Generator().manual_seed(0)).clamp_(-2.5, 2.5)
        crops = torch.cat([torch.zeros_like(noise), noise]).to(self.device)
        return bool(self._rows(crops).isfinite().all())

    def free_memory(self) -> None:
        """Returns cached but unused memory to the device."""
        self.streams.free_memory()

    def _compute(self, crops: torch.Tensor, wide_range: bool) -> torch.Tensor:
        if wide_range:
            self._wide = self._wide or in_bfloat16(self.model)
            # Too rare for graphs.
            return self._rows(crops, self._wide)
        run: Computation = self._rows
        size = next(bucket for bucket in self.buckets if bucket >= len(crops))
        if size not in self._captured:
            self.warm_up(size)
        return self._captured.get(size, run)(crops)

    def _rows(self, crops: torch.Tensor, model: Hamer | None = None) -> torch.Tensor:
        """Returns all outputs of crops (n, 3, h, w) in rows (n, length)."""
        model = model or self.model
        with _tensor_cores(self._sixteen_bit and self.device.type == "cuda"), self.tuning.kernels():
            regressed = model.regress(crops)
        return self.layout.join(model.pose(*regressed, mesh=self.mesh))


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
