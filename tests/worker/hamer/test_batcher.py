"""The micro-batcher: how callers share batches, and what happens without memory or without the device."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import wait_until

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.batcher import MicroBatcher, plan_batches  # noqa: E402
from worker.hamer.engine import BUCKETS  # noqa: E402
from worker.hamer.errors import DeviceLostError, OutOfMemoryError  # noqa: E402
from worker.hamer.streams import Cropped, HostStreams, Launched  # noqa: E402

FOREVER = 120.0  # seconds; a test that passes never waits for so long


def crops(*values: float) -> Cropped:
    """Returns crops of one pixel each."""
    return Cropped(torch.tensor(values).view(-1, 1, 1, 1), HostStreams().record())


class Device:
    """Doubles each crop. It has memory for `room` crops at a time; a test can hold it up, or make it be lost.

    Numbers above `highest` become infinite, unless they are computed with the wide range.
    """

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.wide_room = room
        self.lost = self.lost_later = False
        self.highest = np.inf
        self.has_wide_range = True
        self.sizes: list[int] = []
        self.wide: list[list[float]] = []
        self.order: list[str] = []
        self.launched = 0
        self.go = threading.Event()
        self.go.set()
        self.done = threading.Event()
        self.done.set()
        self.busy = threading.Event()

    def join(self, parts: Sequence[Cropped]) -> torch.Tensor:
        """Joins crops, as the engine does."""
        return torch.cat([part.pixels for part in parts])

    def launch(self, batch: torch.Tensor, *, wide_range: bool = False) -> Launched:
        """Starts a batch, as the engine does."""
        self.busy.set()
        assert self.go.wait(FOREVER)
        if self.lost:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        if len(batch) > (self.wide_room if wide_range else self.room):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        rows = batch.flatten(1) * 2
        self.order.append("wide" if wide_range else "usual")
        if wide_range:
            self.wide.append(batch.flatten().tolist())
        else:
            self.sizes.append(len(batch))
            rows = torch.where(rows > self.highest, torch.inf, rows)
        self.launched += 1
        return Launched(rows, self)

    def synchronize(self) -> None:
        """Waits for a batch, as an event does."""
        assert self.done.wait(FOREVER)
        if self.lost_later:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


class Caller(MicroBatcher):
    """A batcher whose callers wait."""

    def run(self, cropped: Cropped) -> np.ndarray:
        """Returns the rows."""
        return self.submit(cropped).result(FOREVER)


def wait_until_idle(batcher: MicroBatcher) -> None:
    """Waits until the launching thread has nothing to do, after what it was told last."""
    wait_until(lambda: len(batcher._changed._waiters) > 0, "the launching thread's wait")


@pytest.fixture
def device() -> Device:
    """A device with plenty of memory."""
    return Device()


@pytest.fixture
def make(device: Device) -> Iterator[Callable[..., Caller]]:
    """Makes batchers on the device and closes them."""
    made: list[Caller] = []

    def make_batcher(**options: object) -> Caller:
        options = {"buckets": BUCKETS, "on_lost": lambda _: None} | options
        made.append(Caller(device, **options))
        return made[-1]

    yield make_batcher
    device.go.set()
    device.done.set()
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


def test_callers_share_a_batch(make: Callable[..., Caller], device: Device):
    """Crops that wait at the same time share a batch, and each caller gets its own rows."""
    batcher = make()
    device.go.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(batcher.run, crops(0.0))
        assert device.busy.wait(FOREVER)  # from now on the others wait
        rest = [pool.submit(batcher.run, crops(*range(n, 2 * n))) for n in (1, 2, 3)]
        while len(batcher._waiting) < 3:
            threading.Event().wait(0.001)
        device.go.set()
        assert first.result(FOREVER).tolist() == [[0.0]]
        for n, future in zip((1, 2, 3), rest, strict=True):
            assert future.result(FOREVER).tolist() == [[2.0 * v] for v in range(n, 2 * n)]
    assert device.sizes == [1, 6]


def test_a_batch_takes_no_more_than_fits(make: Callable[..., Caller], device: Device):
    """Crops beyond a full batch are in the next one, so that the first callers don't wait for the last."""
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


def test_an_idle_device_waits_for_no_other_crops(make: Callable[..., Caller], device: Device):
    """A crop that finds the device idle is computed alone, at once."""
    assert make().run(crops(3.0)).tolist() == [[6.0]]
    assert device.sizes == [1]


def test_more_crops_than_the_largest_bucket(make: Callable[..., Caller], device: Device):
    """A caller may pass more crops than the largest bucket holds."""
    assert make(buckets=(1, 2, 4)).run(crops(*range(11))).tolist() == [[2.0 * n] for n in range(11)]
    assert device.sizes == [4, 4, 3]


def test_out_of_memory_makes_batches_smaller(make: Callable[..., Caller], device: Device):
    """A shortage is reported and lowers the limit, which later batches respect; no crop is lost."""
    device.room = 5
    shortages = []
    batcher = make(on_shortage=lambda: shortages.append(1))
    assert batcher.run(crops(*range(64))).tolist() == [[2.0 * n] for n in range(64)]
    assert device.sizes == [4] * 16
    assert (batcher.largest, len(shortages)) == (4, 4)
    batcher.run(crops(*range(10)))
    assert len(shortages) == 4


def test_the_limit_rises_again(make: Callable[..., Caller], device: Device):
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


def test_only_batches_since_the_last_shortage_count(make: Callable[..., Caller], device: Device):
    """Batches before a shortage don't count towards the next larger bucket."""
    device.room = 1
    batcher = make(buckets=(1, 2), recovery=5)
    for _ in range(4):
        batcher.run(crops(0.0))
    batcher.run(crops(1.0, 2.0))
    assert batcher.largest == 1


def test_no_memory_at_all(make: Callable[..., Caller], device: Device):
    """If a single crop doesn't fit, its caller gets the error; the next caller may succeed."""
    device.room = 0
    batcher = make()
    with pytest.raises(OutOfMemoryError):
        batcher.run(crops(1.0, 2.0))
    device.room = 1
    assert batcher.run(crops(1.0)).tolist() == [[2.0]]


def test_warming_up_finds_the_largest_batch(make: Callable[..., Caller], device: Device):
    """Batch sizes that can't be prepared aren't used."""
    shortages = []
    batcher = make(on_shortage=lambda: shortages.append(1))
    ready = []

    def prepare(size: int) -> None:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        ready.append(size)

    batcher.warm_up(prepare)
    assert ready == [16, 8, 4, 2, 1]
    assert (batcher.largest, len(shortages)) == (16, 2)


def test_a_lost_device_is_fatal(make: Callable[..., Caller], device: Device):
    """The loss of the device is reported once; waiting and later callers get the error."""
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


def test_two_batches_are_in_flight(make: Callable[..., Caller], device: Device):
    """While the device computes a batch, the next one is launched; what comes later waits, and shares the third."""
    batcher = make()
    device.done.clear()
    futures = [batcher.submit(crops(0.0))]
    wait_until(lambda: device.launched == 1, "the first batch")
    futures += [batcher.submit(crops(1.0))]
    wait_until(lambda: device.launched == 2, "the second batch")
    futures += [batcher.submit(crops(2.0)), batcher.submit(crops(3.0, 4.0))]
    wait_until_idle(batcher)
    assert (device.sizes, [future.done() for future in futures]) == ([1, 1], [False] * 4)
    device.done.set()
    assert [future.result(FOREVER).tolist() for future in futures] == [[[0.0]], [[2.0]], [[4.0]], [[6.0], [8.0]]]
    assert device.sizes == [1, 1, 3]


def test_a_device_that_is_lost_under_a_batch(make: Callable[..., Caller], device: Device):
    """An error that only the wait for the rows tells is as fatal; both batches in flight get it."""
    reports: list[DeviceLostError] = []
    batcher = make(on_lost=reports.append)
    device.done.clear()
    futures = [batcher.submit(crops(0.0))]
    wait_until(lambda: device.launched == 1, "the first batch")
    futures += [batcher.submit(crops(1.0))]
    wait_until(lambda: device.launched == 2, "the second batch")
    device.lost_later = True
    device.done.set()
    for future in futures:
        with pytest.raises(DeviceLostError, match="illegal memory access"):
            future.result(FOREVER)
    with pytest.raises(DeviceLostError):
        batcher.submit(crops(2.0))
    assert len(reports) == 1


def test_crops_that_overflow_are_computed_again(make: Callable[..., Caller], device: Device):
    """Only they are, with the wide range; the other crops of their batch keep their rows, and nobody else waits."""
    again: list[int] = []
    device.highest = 100.0
    batcher = make(on_overflow=again.append)
    assert batcher.run(crops(1.0, 70.0, 2.0, 90.0)).tolist() == [[2.0], [140.0], [4.0], [180.0]]
    assert (device.sizes, device.wide, again) == ([4], [[70.0, 90.0]], [2])


def test_crops_that_overflow_are_the_next_batch(make: Callable[..., Caller], device: Device):
    """They come before crops that wait, and aren't joined with them: those don't need the wide range."""
    device.highest = 100.0
    batcher = make()
    device.done.clear()
    futures = [batcher.submit(crops(70.0))]
    wait_until(lambda: device.launched == 1, "the first batch")
    futures += [batcher.submit(crops(1.0))]
    wait_until(lambda: device.launched == 2, "the second batch")
    futures += [batcher.submit(crops(80.0))]
    wait_until_idle(batcher)
    device.done.set()
    assert [future.result(FOREVER).tolist() for future in futures] == [[[140.0]], [[2.0]], [[160.0]]]
    assert device.order == ["usual", "usual", "wide", "usual", "wide"]
    assert device.wide == [[70.0], [80.0]]


def test_an_overflow_of_the_wide_range_is_final(make: Callable[..., Caller], device: Device):
    """Rows that aren't finite then either are returned as they are; so are those of a device without a wider range."""
    batcher = make()
    assert batcher.run(crops(1.0, np.inf)).tolist() == [[2.0], [np.inf]]
    assert len(device.wide) == 1
    device.has_wide_range = False
    assert batcher.run(crops(np.inf)).tolist() == [[np.inf]]
    assert len(device.wide) == 1


@pytest.mark.parametrize(("room", "rows", "attempts"), [(1, [[140.0], [180.0]], 2), (0, [[np.inf], [np.inf]], 0)])
def test_the_wide_range_without_memory(
    make: Callable[..., Caller], device: Device, room: int, rows: list[list[float]], attempts: int
):
    """Such crops are computed one by one, or if even that doesn't fit keep what isn't finite; usual batches stay large."""
    device.highest, device.wide_room = 100.0, room
    batcher = make()
    assert batcher.run(crops(70.0, 90.0)).tolist() == rows
    assert (len(device.wide), batcher.largest) == (attempts, BUCKETS[-1])
    assert batcher.run(crops(1.0)).tolist() == [[2.0]]


def test_closing_waits_for_crops_that_overflow(make: Callable[..., Caller], device: Device):
    """They are requests of their own, which come after the closing."""
    device.highest = 100.0
    batcher = make()
    device.done.clear()
    future = batcher.submit(crops(70.0))
    wait_until(lambda: device.launched == 1, "the batch")
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(batcher.close)
        wait_until(lambda: batcher._closed, "the closing")
        wait_until_idle(batcher)
        device.done.set()
        assert future.result(FOREVER).tolist() == [[140.0]]
        closing.result(FOREVER)


def test_a_bug_reaches_the_callers(make: Callable[..., Caller], device: Device):
    """The batch's callers get any other error unchanged, and the batcher continues."""
    batcher = make()
    device.room = None  # a comparison with it is a TypeError
    with pytest.raises(TypeError):
        batcher.run(crops(1.0))
    device.room = 1000
    assert batcher.run(crops(1.0)).tolist() == [[2.0]]


@pytest.mark.parametrize("lost", [False, True])
def test_an_idle_batcher_keeps_no_crops(make: Callable[..., Caller], device: Device, lost: bool):
    """They are memory of the device."""
    batcher, cropped = make(), crops(1.0, 2.0)
    pixels, device.lost_later = weakref.ref(cropped.pixels), lost
    future = batcher.submit(cropped)
    del cropped
    assert (future.exception(FOREVER) is not None) is lost
    del future  # an error's traceback has the batch
    wait_until(lambda: pixels() is None, "the end of the crops")


def test_closing_finishes_what_waits(make: Callable[..., Caller], device: Device):
    """Closing computes the crops that wait, and later ones are refused."""
    batcher = make()
    device.go.clear()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(batcher.run, crops(0.0))
        assert device.busy.wait(FOREVER)  # from now on the next one waits
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
