"""The networks on a GPU, which is fast only in batches: all pictures in progress share them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

import numpy as np
import torch
from numpy.typing import NDArray

from worker.hands.device.arena import PIXELS, Arena, InArena, Placed
from worker.hands.device.batches import Batches
from worker.hands.device.computation import Computation
from worker.hands.device.errors import end_process, is_device_lost
from worker.hands.device.inputs import Rows, crop_rows, view_rows
from worker.hands.device.runner import BUCKETS, Launched, Outputs, Runner
from worker.hands.models import ModelPaths
from worker.hands.networks import Found, Keep, Network, Request, SearchViews, Steps

AT_ONCE = 64
"""Pictures in progress. At `balanced` the views of thirteen fill a batch; two batches are in flight, one gathers, and other
pictures are at their crops."""


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
        at_once: int = AT_ONCE,
        on_lost: Callable[[BaseException], None] = end_process,
    ) -> None:
        """Reserves memory for pictures; networks are loaded by `prepare`.

        Args:
            models: the checked model files.
            device: a GPU, or a CPU for tests: there it is slower than LiteRT.
            dtype: what the networks compute with.
            buckets: batch sizes, ascending.
            pixels: room for pictures, see :mod:`worker.hands.device.arena`.
            at_once: how many pictures keep it busy.
            on_lost: called when the GPU is lost; by default ends the process with exit code 3.
        """
        self.name = f"torch-{device.type}"
        self.at_once = at_once
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

    def run(self, image: NDArray[np.uint8], steps: Steps[Found], keep: Keep | None = None) -> Future[Found]:
        """Copies a picture (H, W, 3) uint8 BGR to the device, and answers the requests of a computation about it.

        It waits for room, which pictures leave when they are done, or when whoever keeps their copies frees these.

        Returns:
            A future of what the computation returns. The computation, and the future's callbacks, run in the thread that
            hands out results.
        """
        placed = self._arena.place(image)
        if placed.uploaded is not None:
            self._new.append(placed)  # pragma: no cover - needs a GPU

        def ask(request: Request) -> None:
            self._ask(placed, request, computation)

        def end(has_found: bool) -> None:
            picture = InArena(self._arena, placed)
            if has_found and keep:
                keep(picture)
            else:
                picture.free()

        computation = Computation(steps, ask, end)
        computation.start()
        return computation.found

    def close(self) -> None:
        """Computes what waits, then stops."""
        self.batches.close()

    def _ask(self, placed: Placed, request: Request, computation: Computation[Found]) -> None:
        """Lets a request be answered in the batches of its network."""
        network = request.network
        if isinstance(request, SearchViews):
            rows, least = view_rows(placed, request.views, network.size), request.network.min_logit
        else:
            rows, least = crop_rows(placed, request.squares, network.size), None

        def take(outputs: Outputs | Exception) -> None:
            if isinstance(outputs, Exception):
                computation.fail(outputs)
            else:
                computation.go_on([each if least is None else each[each[:, 1] >= least] for each in outputs])

        self.batches.ask(network, rows, take)

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
