"""What goes wrong with a GPU, and which of torch's errors mean it."""

from __future__ import annotations

import logging
import os

import torch

logger = logging.getLogger(__name__)


EXIT_CODE = 3
"""Of a process that has lost its GPU, and of no other end: 1 is a failure, 2 a wrong usage."""


class DeviceError(Exception):
    """This machine doesn't have the requested device, or it doesn't work."""


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


def end_process(error: BaseException) -> None:
    """Exits with EXIT_CODE at once, so that a supervisor starts a process whose device works.

    There is no clean-up: deliveries that aren't acknowledged are delivered again, and threads that wait for the device
    would never end.
    """
    logger.critical("the device is lost; exiting", extra={"reason": str(error), "exit_code": EXIT_CODE})
    logging.shutdown()
    os._exit(EXIT_CODE)
