"""HaMeR's errors, and which of torch's errors mean a shortage of memory or a lost device."""

import torch


class HamerError(Exception):
    """The root of this package's errors."""


class CheckpointError(HamerError, ValueError):
    """A checkpoint, its config or a hand model can't be used; the text names the file and the reason."""


class WeightsOverflowError(CheckpointError):
    """A weight is finite in the checkpoint but exceeds the range of the requested precision."""


class DeviceError(HamerError):
    """This machine doesn't have the requested device."""


class OutOfMemoryError(HamerError):
    """The device has no memory for even a single crop."""


class DeviceLostError(HamerError):
    """This process has lost its GPU: no later computation can succeed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether the device ran out of memory, so that less work at a time may help."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        phrase in text
        for phrase in (
            "out of memory",
            "can't allocate memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
        )
    )


def is_device_lost(error: BaseException) -> bool:
    """Returns whether the process can't use its GPU any more.

    A CUDA context doesn't recover from errors other than a failed allocation: every later call reports the error again.
    """
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return isinstance(error, torch.AcceleratorError) or any(
        phrase in text
        for phrase in ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "No CUDA GPUs")
    )
