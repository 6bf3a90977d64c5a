"""Reads hamer.ckpt and the model_config.yaml that belongs to it. Nothing else reads them.

The files aren't trusted: no code in them runs (`weights_only`), and whatever could demand more memory than the file is
large is refused before anything is allocated.
"""

import ctypes
import mmap
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml

from worker.hamer.config import HamerConfig, config_of_yaml
from worker.hamer.errors import CheckpointError
from worker.hamer.sizes import IGNORED, name_of

MAX_YAML_BYTES = 1 << 20


class MappedTensors(dict[str, torch.Tensor]):
    """Tensors whose storages are pages of a mapped file."""

    def release(self, keys: set[str]) -> None:
        """Returns the tensors' pages to the system, which would read them from the file again if need be.

        Otherwise the weights would be in memory twice, as pages of the file and as the copies; a container's memory
        limit counts both.
        """
        if sys.platform != "linux":
            return
        page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
        for key in keys:
            tensor = self[key]
            first = -(-tensor.data_ptr() // page) * page  # whole pages only: others may be shared with a neighbour
            last = (tensor.data_ptr() + tensor.nbytes) // page * page
            if last > first:
                libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def read_tensors(checkpoint: Path) -> MappedTensors:
    """Reads the tensors of a checkpoint.

    Raises:
        CheckpointError: it isn't a checkpoint, or holds what isn't a plain tensor; tensors and classes are named.
    """
    _check_archive(checkpoint)
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as e:
        raise CheckpointError(f"refused: {_refused(e)}") from e
    except Exception as e:  # a broken file raises nearly anything
        raise CheckpointError(f"not a PyTorch checkpoint, or a damaged one ({_first_line(e)})") from e
    tensors = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(tensors, dict):
        raise CheckpointError("it has no state_dict: is this hamer.ckpt?")
    if problems := [problem for key, value in tensors.items() if (problem := _problem(key, value))]:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError("; ".join(problems[:5]) + more)
    return MappedTensors(tensors)


def _check_archive(checkpoint: Path) -> None:
    """Refuses an archive that unpacks to more than it is large. What torch writes isn't compressed."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            packed = [member.filename for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
    except FileNotFoundError:
        raise CheckpointError("no such file") from None
    except OSError as e:
        raise CheckpointError(f"it can't be read: {e.strerror}") from e
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as e:
        raise CheckpointError("not a PyTorch checkpoint, or a damaged one (it isn't a zip archive)") from e
    if packed:
        raise CheckpointError(
            f"refused: {name_of(packed[0])} is compressed; torch.save writes checkpoints uncompressed"
        )


def _refused(error: pickle.UnpicklingError) -> str:
    """Says what the file holds besides tensors. Torch's own text advises to switch the protection off."""
    text = str(error)
    if found := re.search(r"GLOBAL (?P<a>[\w.]+)|(?:class|call|global|type) '?<?(?P<b>[\w]+\.[\w.]+)", text):
        return f"it holds {found['a'] or found['b']}, which is no tensor"
    return "it holds other things than tensors"


def _problem(key: object, value: object) -> str | None:
    """Says why an item of the state_dict can't be a weight. Those that inference ignores may be anything."""
    if not isinstance(key, str):
        return f"the name of a tensor must be text: {name_of(key)}"
    if not isinstance(value, torch.Tensor):
        return f"not tensors: {name_of(key)}"
    if IGNORED.fullmatch(key):
        return None
    if value.layout != torch.strided or value.is_quantized:
        return f"not a plain tensor: {name_of(key)} is {value.layout if not value.is_quantized else value.dtype}"
    if value.device.type != "cpu":
        return f"not a plain tensor: {name_of(key)} has no data ({value.device.type})"
    if value.untyped_storage().nbytes() < value.storage_offset() * value.element_size() + value.nbytes:
        return f"not a plain tensor: {name_of(key)} is {tuple(value.shape)} but the file has fewer numbers for it"
    return None


def read_config(checkpoint: Path) -> HamerConfig:
    """Reads the model_config.yaml beside a checkpoint or in the folder above.

    Raises:
        CheckpointError: one of the files is missing, or the yaml is damaged or of another network.
    """
    places = [folder / "model_config.yaml" for folder in (checkpoint.parent, checkpoint.parent.parent)]
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file")
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise CheckpointError(f"no model_config.yaml beside {checkpoint} or in the folder above")
    try:
        text = path.read_bytes() if path.stat().st_size <= MAX_YAML_BYTES else None
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror}") from e
    if text is None:
        raise CheckpointError(f"{path}: larger than {MAX_YAML_BYTES >> 20} MiB: is this model_config.yaml?")
    try:
        document: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as e:  # dates and numbers beyond Python's are ValueErrors
        raise CheckpointError(f"{path}: not YAML: {_first_line(e)}") from e
    with reading(path.parent):
        return config_of_yaml(document)


class reading:  # noqa: N801 - used as a statement
    """Adds the file's name to a CheckpointError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CheckpointError):
            raise type(error)(f"{self._path}: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
