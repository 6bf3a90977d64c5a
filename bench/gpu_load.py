"""How busy the GPU is while something runs: the share of time with a kernel on it, as the driver says."""

import statistics
import subprocess
from types import TracebackType

import torch


class GpuLoad:
    """Samples nvidia-smi every 200 ms while it is entered.

    Attributes:
        busy: the mean, 0 to 1; None on a CPU, or without nvidia-smi.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process: subprocess.Popen[str] | None = None
        self.busy: float | None = None

    def __enter__(self) -> "GpuLoad":
        """Starts to sample."""
        if self._device.type == "cuda":
            number = str(self._device.index or 0)
            command = ["nvidia-smi", f"--id={number}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            try:
                self._process = subprocess.Popen([*command, "--loop-ms=200"], stdout=subprocess.PIPE, text=True)
            except OSError:
                self._process = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops, and takes the mean."""
        if self._process is None:
            return
        self._process.terminate()
        told, _ = self._process.communicate(timeout=10)
        self.busy = mean_of(told)


def mean_of(told: str) -> float | None:
    """Returns the mean of lines of per cents, as a share; None without any."""
    values = [float(line) for line in told.splitlines() if line.strip().isdigit()]
    return statistics.mean(values) / 100 if values else None
