"""Which of torch's errors mean a shortage of memory or a lost device, and the end of a process that has lost it."""

import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import pytest
from support.processes.in_fork import in_fork

from process import logs

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.batcher import MicroBatcher  # noqa: E402
from worker.hamer.errors import is_device_lost, is_out_of_memory  # noqa: E402
from worker.hamer.streams import Cropped  # noqa: E402


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
def test_kinds_of_errors(error: Exception, memory: bool, lost: bool):
    """A shortage of memory, a lost device and a bug are distinguished."""
    assert (is_out_of_memory(error), is_device_lost(error)) == (memory, lost)


class Lost:
    """Computes nothing any more."""

    has_wide_range = False

    def join(self, _parts: Sequence[Cropped]) -> NoReturn:
        """Fails as torch does then."""
        raise torch.AcceleratorError("CUDA error: no CUDA-capable device is detected")


def lose_the_device() -> None:
    """Waits for a device that is lost, while another thread waits, too."""
    logs.set_up("info", "text")
    threading.Thread(target=threading.Event().wait).start()
    crops = Cropped(torch.zeros(1, 1, 1, 1), None)
    MicroBatcher(Lost(), buckets=(1,)).submit(crops).result()  # type: ignore[arg-type]
    sys.stdout.write("still here")


def test_a_lost_device_ends_the_process():
    """By default the process exits at once with code 3 and logs the reason, though threads are waiting."""
    done = in_fork(lose_the_device)
    assert (done.returncode, done.stdout) == (3, "")
    assert "the device is lost; exiting" in done.stderr
    assert "no CUDA-capable device is detected" in done.stderr
