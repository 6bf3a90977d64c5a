"""Which device the networks run on; and if a GPU can't be used, why, in words that say what to do."""

from __future__ import annotations

import functools
import logging
import re

import torch

from worker.hands.device.errors import DeviceError

logger = logging.getLogger(__name__)

_TOO_OLD = re.compile(r"driver on your system is too old \(found version (\d+)\)")
_NO_DRIVER = "Found no NVIDIA driver"
_INSUFFICIENT = "driver version is insufficient"
_NO_KERNELS = "no kernel image is available"


def choose_device(name: str) -> torch.device:
    """Returns the device with this name, having tried it.

    Args:
        name: "auto" is a GPU if there is one that works; "cpu"; "cuda" or "cuda:N".

    Raises:
        DeviceError: this machine doesn't have it, or it doesn't work; the text says why.
    """
    if name == "auto":
        return torch.device("cpu" if _problem_with_the_first() else "cuda")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"there is no device {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"the networks run on cpu or cuda, not on {name!r}")
    if device.type == "cuda" and (problem := gpu_problem(device.index or 0)):
        raise DeviceError(f"{name!r} was requested, but {problem}")
    return device


def choose_gpu(name: str) -> torch.device | None:
    """Returns the GPU with this name; None for the CPU, where the detector has another engine. Raises the same error."""
    device = choose_device(name)
    return None if device.type == "cpu" else device


@functools.cache  # asked by the detector and by HaMeR, and logged once
def _problem_with_the_first() -> str | None:
    if not _is_built():
        return "this torch is built without CUDA"
    problem = gpu_problem(0)
    if problem:
        logger.warning("no GPU can be used; the networks run on the CPU", extra={"reason": problem})
    return problem


def gpu_problem(index: int) -> str | None:
    """Returns why the GPU with this number can't be used; None if it computes."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        count = torch.cuda.device_count()
        if index >= count:
            return f"there are {count} CUDA devices"
        if torch.ones(1, device=f"cuda:{index}").add(1).item() != 2:
            return "it computes wrongly"
    except (RuntimeError, AssertionError) as error:
        return explained(str(error))
    return None


def _is_built() -> bool:
    return bool(torch.backends.cuda.is_built())  # type: ignore[no-untyped-call]


def explained(error: str) -> str:
    """Returns what one of torch's errors at the start means, and what to do."""
    if not _is_built():
        return f"torch {torch.__version__} is built without CUDA: install another torch"
    wanted = f"torch {torch.__version__} needs CUDA {torch.version.cuda}"
    remedy = "update the driver, or install a torch for an older CUDA"
    if found := _TOO_OLD.search(error):
        version = int(found[1])
        return f"the NVIDIA driver is too old: it reaches CUDA {version // 1000}.{version % 1000 // 10}, and {wanted}; {remedy}"
    if _INSUFFICIENT in error:
        return f"the NVIDIA driver is too old: {wanted}; {remedy}"
    if _NO_DRIVER in error:
        return "there is no NVIDIA driver: install it, or give the container the GPU (NVIDIA's container toolkit)"
    if _NO_KERNELS in error:
        kinds = " ".join(torch.cuda.get_arch_list())
        return f"the GPU is of a kind that torch {torch.__version__} isn't built for ({kinds}): install another torch"
    return f"it doesn't work: {error.splitlines()[0] if error else 'without a reason'}"
