"""What can go wrong with HaMeR, and how a device's complaint is told from a bug."""

import torch


class HamerError(Exception):
    """The root of this package's errors."""


class CheckpointError(HamerError, ValueError):
    """A checkpoint, its config or a hand model can't be used; the text says which file and why."""


class WeightsOverflowError(CheckpointError):
    """A weight is finite in the checkpoint, but beyond the range of the precision asked for."""


class DeviceError(HamerError):
    """The device that was asked for isn't there."""


class OutOfMemoryError(HamerError):
    """Not even a single crop fits into the device's memory."""


class DeviceLostError(HamerError):
    """The GPU is gone for this process: nothing it computes from now on can succeed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether less work at a time may help."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in (
            "out of memory",
            "can't allocate memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
        )
    )


def is_device_lost(error: BaseException) -> bool:
    """Tells whether the process can't use its GPU any more.

    A CUDA context doesn't recover from an error other than a failed allocation: every later call reports it again.
    """
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return isinstance(error, torch.AcceleratorError) or any(
        sign in text for sign in ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "No CUDA GPUs")
    )
