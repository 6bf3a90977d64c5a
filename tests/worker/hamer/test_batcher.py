"""The micro-batcher joins callers, copes with little memory, and never hides a lost device."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.batcher import MicroBatcher, plan_batches  # noqa: E402
from worker.hamer.engine import BUCKETS  # noqa: E402
from worker.hamer.errors import DeviceLostError, OutOfMemoryError, is_device_lost, is_out_of_memory  # noqa: E402

FOREVER = 120.0  # seconds; no test waits for it


def crops(*values: float) -> torch.Tensor:
    """Makes crops of one pixel each."""
    return torch.tensor(values).view(-1, 1, 1, 1)


class Device:
    """Doubles each crop. Memory for `room` crops at a time; can be held up, and can be lost."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.lost = False
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def forward(self, batch: torch.Tensor) -> np.ndarray:
        """Is what the batcher calls."""
        self.busy.set()
        assert self.go.wait(FOREVER)
        if self.lost:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        self.sizes.append(len(batch))
        return batch.flatten(1).numpy() * 2


@pytest.fixture
def device() -> Device:
    """A device with plenty of memory."""
    return Device()


@pytest.fixture
def make(device: Device) -> Iterator[Callable[..., MicroBatcher]]:
    """Makes batchers on the device and closes them."""
    made: list[MicroBatcher] = []

    def make_batcher(**options: object) -> MicroBatcher:
        options = {"buckets": BUCKETS, "deadline": 0.0} | options
        made.append(MicroBatcher(device.forward, **options))
        return made[-1]

    yield make_batcher
    device.go.set()
    for batcher in made:
        batcher.close()


@given(st.integers(0, 500), st.sampled_from(BUCKETS))
def test_plans_cover_everything_with_little_padding(n: int, largest: int):
    """Batches add up, respect the limit, and are padded by at most a quarter of their bucket."""
    plan = plan_batches(n, BUCKETS, largest)
    assert sum(plan) == n
    for size in plan:
        bucket = next(b for b in BUCKETS if b >= size)
        assert bucket <= largest
        assert bucket - size <= bucket // 4


def test_callers_share_a_batch(make: Callable[..., MicroBatcher], device: Device):
    """Crops that wait at the same time travel together, and each caller gets its own back."""
    batcher = make()
    device.go.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(batcher.run, crops(0.0))
        assert device.busy.wait(FOREVER)  # from here on, all others wait
        rest = [pool.submit(batcher.run, crops(*range(n, 2 * n))) for n in (1, 2, 3)]
        while len(batcher._waiting) < 3:
            threading.Event().wait(0.001)
        device.go.set()
        assert first.result(FOREVER).tolist() == [[0.0]]
        for n, future in zip((1, 2, 3), rest, strict=True):
            assert future.result(FOREVER).tolist() == [[2.0 * v] for v in range(n, 2 * n)]
    assert device.sizes == [1, 6]
    assert (batcher.batches, batcher.crops) == (2, 7)


def test_a_batch_takes_no_more_than_fits(make: Callable[..., MicroBatcher], device: Device):
    """Callers beyond a full batch travel in the next, so that the first aren't kept waiting for the last."""
    batcher = make(buckets=(1, 2, 4))
    device.go.clear()
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(batcher.run, crops(0.0))]
        assert device.busy.wait(FOREVER)
        futures += [pool.submit(batcher.run, crops(1.0, 2.0, 3.0)) for _ in range(3)]
        while len(batcher._waiting) < 3:
            threading.Event().wait(0.001)
        device.go.set()
        for future in futures:
            future.result(FOREVER)
    assert device.sizes == [1, 3, 3, 3]


def test_a_full_batch_does_not_wait_for_the_deadline(make: Callable[..., MicroBatcher], device: Device):
    """As soon as the largest bucket is full, it leaves."""
    batcher = make(deadline=FOREVER, buckets=(1, 2, 4))
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(batcher.run, crops(float(n))) for n in range(4)]:
            future.result(FOREVER / 2)
    assert device.sizes == [4]


def test_a_lonely_crop_leaves_at_the_deadline(make: Callable[..., MicroBatcher], device: Device):
    """Without company a crop is computed alone after a short while."""
    assert make(deadline=0.005).run(crops(3.0)).tolist() == [[6.0]]
    assert device.sizes == [1]


def test_more_than_fits(make: Callable[..., MicroBatcher], device: Device):
    """A caller may bring more crops than the largest bucket holds."""
    assert make(buckets=(1, 2, 4)).run(crops(*range(11))).tolist() == [[2.0 * n] for n in range(11)]
    assert device.sizes == [4, 4, 3]


def test_out_of_memory_makes_batches_smaller(make: Callable[..., MicroBatcher], device: Device):
    """A shortage is counted, lowers the limit, loses nothing, and later batches respect the limit."""
    device.room = 5
    shortages = []
    batcher = make(on_shortage=lambda: shortages.append(1))
    assert batcher.run(crops(*range(64))).tolist() == [[2.0 * n] for n in range(64)]
    assert device.sizes == [4] * 16
    assert (batcher.largest, batcher.shortages, len(shortages)) == (4, 4, 4)
    batcher.run(crops(*range(10)))
    assert batcher.shortages == 4


def test_the_limit_rises_again(make: Callable[..., MicroBatcher], device: Device):
    """After many batches without a shortage the next larger bucket is tried."""
    device.room = 1
    batcher = make(buckets=(1, 2), recovery=5)
    batcher.run(crops(1.0, 2.0))
    assert batcher.largest == 1
    device.room = 2
    batcher.run(crops(0.0, 0.0))
    assert batcher.largest == 1
    batcher.run(crops(0.0))
    assert batcher.largest == 2
    batcher.run(crops(1.0, 2.0))
    assert device.sizes[-1] == 2


def test_only_batches_since_the_last_shortage_count(make: Callable[..., MicroBatcher], device: Device):
    """What went well before a shortage says nothing about the larger bucket."""
    device.room = 1
    batcher = make(buckets=(1, 2), recovery=5)
    for _ in range(4):
        batcher.run(crops(0.0))
    batcher.run(crops(1.0, 2.0))
    assert batcher.largest == 1


def test_no_memory_at_all(make: Callable[..., MicroBatcher], device: Device):
    """When a single crop doesn't fit, the caller is told, and the next caller may have better luck."""
    device.room = 0
    batcher = make()
    with pytest.raises(OutOfMemoryError):
        batcher.run(crops(1.0, 2.0))
    device.room = 1
    assert batcher.run(crops(1.0)).tolist() == [[2.0]]


def test_warming_up_finds_the_largest_batch(make: Callable[..., MicroBatcher], device: Device):
    """Batch sizes that can't be made ready aren't used."""
    batcher = make()
    ready = []

    def prepare(size: int) -> None:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        ready.append(size)

    batcher.warm_up(prepare)
    assert ready == [16, 8, 4, 2, 1]
    assert (batcher.largest, batcher.shortages) == (16, 2)


def test_a_lost_device_is_fatal(make: Callable[..., MicroBatcher], device: Device):
    """Losing the device is reported once; whoever waits and whoever comes later is told."""
    reports: list[DeviceLostError] = []
    batcher = make(on_lost=reports.append)
    device.go.clear()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(batcher.run, crops(1.0))]
        assert device.busy.wait(FOREVER)
        futures.append(pool.submit(batcher.run, crops(2.0)))
        while not batcher._waiting:
            threading.Event().wait(0.001)
        device.lost = True
        device.go.set()
        for future in futures:
            with pytest.raises(DeviceLostError, match="unspecified launch failure"):
                future.result(FOREVER)
    with pytest.raises(DeviceLostError):
        batcher.run(crops(3.0))
    assert len(reports) == 1


def test_a_lost_device_ends_the_process():
    """By default the process ends at once with exit code 1 and says why, though threads are waiting."""
    program = """
import threading, torch
from worker.hamer.batcher import MicroBatcher

def forward(batch):
    raise torch.AcceleratorError("CUDA error: no CUDA-capable device is detected")

threading.Thread(target=threading.Event().wait).start()
MicroBatcher(forward, buckets=(1,)).run(torch.zeros(1, 1, 1, 1))
print("still here")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=FOREVER
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "no CUDA-capable device is detected; ending the process" in done.stderr


def test_a_bug_reaches_the_callers(make: Callable[..., MicroBatcher], device: Device):
    """Any other error goes to the callers of the batch as it is, and the batcher goes on."""
    batcher = make()
    device.room = None  # comparing with it is a TypeError
    with pytest.raises(TypeError):
        batcher.run(crops(1.0))
    device.room = 1000
    assert batcher.run(crops(1.0)).tolist() == [[2.0]]


def test_closing_finishes_what_waits(make: Callable[..., MicroBatcher], device: Device):
    """Closing computes what was handed in before, and refuses what comes later."""
    batcher = make(deadline=FOREVER)
    device.go.clear()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(batcher.run, crops(4.0))
        while not batcher._waiting:
            threading.Event().wait(0.001)
        closing = pool.submit(batcher.close)
        device.go.set()
        assert waiting.result(FOREVER).tolist() == [[8.0]]
        closing.result(FOREVER)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.run(crops(1.0))
    batcher.close()


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True, False),
        (torch.AcceleratorError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True, False),
        (MemoryError(), True, False),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling"), False, True),
        (RuntimeError("No CUDA GPUs are available"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("CUDA error"), False, False),
    ],
)
def test_complaints_of_devices(error: Exception, memory: bool, lost: bool):
    """A shortage of memory, a lost device and a bug are told apart."""
    assert (is_out_of_memory(error), is_device_lost(error)) == (memory, lost)
