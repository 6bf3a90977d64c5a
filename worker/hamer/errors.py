"""HaMeR's errors, and which of torch's errors mean a shortage of memory or a lost device."""

from worker.hands.device.errors import DeviceError, is_device_lost, is_out_of_memory

__all__ = [
    "CheckpointError",
    "CompileError",
    "DeviceError",
    "DeviceLostError",
    "HamerError",
    "OutOfMemoryError",
    "WeightsOverflowError",
    "is_device_lost",
    "is_out_of_memory",
]


class HamerError(Exception):
    """The root of this package's errors."""


class CheckpointError(HamerError, ValueError):
    """A checkpoint, its config or a hand model can't be used; the text names the file and the reason."""


class WeightsOverflowError(CheckpointError):
    """A weight is finite in the checkpoint but exceeds the range of the requested precision."""


class CompileError(HamerError):
    """torch.compile fails here, although it was asked for."""


class OutOfMemoryError(HamerError):
    """The device has no memory for the weights, or for even a single crop."""


class DeviceLostError(HamerError):
    """This process has lost its GPU: no later computation can succeed."""
