"""The networks on a GPU, which is fast only in batches: the pictures of all threads share them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hands.device.arena import PIXELS, Arena, Placed
from worker.hands.device.batches import Batches
from worker.hands.device.errors import end_process, is_device_lost
from worker.hands.device.inputs import Rows, crop_rows, view_rows
from worker.hands.device.runner import BUCKETS, Launched, Runner
from worker.hands.models import ModelPaths
from worker.hands.networks import Answer, Answerer, Network, Request, SearchViews


class DeviceEngine:
    """Runs the networks with torch. For any thread."""

    def __init__(
        self,
        models: ModelPaths,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        buckets: tuple[int, ...] = BUCKETS,
        pixels: int = PIXELS,
        on_lost: Callable[[BaseException], None] = end_process,
    ) -> None:
        """Reserves memory for pictures; networks are loaded by `prepare`.

        Args:
            models: the checked model files.
            device: a GPU, or a CPU for tests: there it is slower than LiteRT.
            dtype: what the networks compute with.
            buckets: batch sizes, ascending.
            pixels: room for pictures, see :mod:`worker.hands.device.arena`.
            on_lost: called when the GPU is lost; by default ends the process with exit code 3.
        """
        self.name = f"torch-{device.type}"
        self._models = models
        self._device = device
        self._dtype = dtype
        self._buckets = buckets
        self._on_lost = on_lost
        self._arena = Arena(device, pixels)
        # Apart from the streams on which HaMeR works.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._runners: dict[Network, Runner] = {}
        self._loading = threading.Lock()
        self._new: list[Placed] = []
        self.batches: Batches[Network] = Batches(self._launch, buckets[-1], self._report)

    def prepare(self, networks: Iterable[Network]) -> None:
        """Loads networks and, on a GPU, captures their graphs."""
        with self._loading:
            for network in networks:
                if network not in self._runners:
                    file = getattr(self._models, network.file)
                    runner = Runner(network, file, self._arena, self._device, dtype=self._dtype, buckets=self._buckets)
                    with torch.cuda.stream(self._stream):  # nothing without a GPU
                        runner.warm_up()
                    self._runners[network] = runner

    @contextmanager
    def open(self, image: NDArray[np.uint8]) -> Iterator[Answerer]:
        """Copies a picture (H, W, 3) uint8 BGR to the device, and yields what answers requests about it."""
        placed = self._arena.place(image)
        try:
            if placed.uploaded is not None:
                self._new.append(placed)  # pragma: no cover - needs a GPU
            yield lambda request: self._answer(placed, request)
        finally:
            self._arena.release(placed)

    def close(self) -> None:
        """Computes what waits, then stops."""
        self.batches.close()

    def _answer(self, placed: Placed, request: Request) -> Answer:
        network = request.network
        if isinstance(request, SearchViews):
            outputs = self.batches.run(network, view_rows(placed, request.views, network.size))
            return [rows[rows[:, 1] >= request.network.min_logit] for rows in outputs]
        return list(self.batches.run(network, crop_rows(placed, request.squares, network.size)))

    def _launch(self, network: Network, rows: Rows) -> Launched:
        if network not in self._runners:
            self.prepare([network])
        if self._stream is not None:  # pragma: no cover - needs a GPU
            while self._new:  # the device waits for the copies of pictures that it hasn't seen yet, this thread doesn't
                self._stream.wait_event(self._new.pop().uploaded)
        with torch.cuda.stream(self._stream):
            return self._runners[network].launch(rows)

    def _report(self, error: BaseException) -> None:
        if is_device_lost(error):
            self._on_lost(error)
