"""Reads MANO_RIGHT.pkl with a restricted unpickler, which runs no code from the file.

The file is a Python 2 pickle that names classes of numpy, of old scipy modules and of chumpy. Each of these names
resolves to a small stand-in defined here; any other name is refused before anything is called. So neither scipy nor
chumpy has to be installed, and a forged file can only fail.
"""

import io
import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.hamer.errors import CheckpointError

TIPS = (744, 320, 443, 554, 671)
"""Vertices at the tips of thumb, index, middle, ring and little finger, as in the official wrapper."""

ORDER = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""The usual 21 key points among MANO's 16 joints and the 5 tips: wrist, thumb, index, middle, ring, little finger."""


MAX_BYTES = 256 << 20
"""Of the file; the official one has 4 MB."""

MAX_VERTICES = 100_000
"""MANO has 778."""

_MAX_JOINTS = 1_000
_MAX_MEMO = 1_000_000


@dataclass(frozen=True)
class ManoArrays:
    """The hand model's arrays in the checkpoint's layout, with V vertices and F triangles.

    Attributes:
        v_template: (V, 3) metres.
        shapedirs: (V, 3, 10).
        posedirs: (135, V * 3).
        j_regressor: (16, V).
        lbs_weights: (V, 16).
        parents: (16,) each joint's parent, -1 for the root.
        faces: (F, 3).
    """

    v_template: NDArray[np.float32]
    shapedirs: NDArray[np.float32]
    posedirs: NDArray[np.float32]
    j_regressor: NDArray[np.float32]
    lbs_weights: NDArray[np.float32]
    parents: NDArray[np.int64]
    faces: NDArray[np.int64]


class _State:
    """Stands in for a foreign class: keeps its state and does nothing with it."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"the state of {type(self).__name__} must be a dict")
        self.state = state


class _SparseColumns(_State):
    """scipy.sparse.csc_matrix."""

    def dense(self) -> NDArray[Any]:
        rows, columns = (int(n) for n in self.state["_shape"])
        if not (0 < rows <= _MAX_JOINTS and 0 < columns <= MAX_VERTICES):
            raise ValueError(f"a sparse matrix of {rows} x {columns}; the hand model's has a row for each of 16 joints")
        starts, values, indices = (_dense(self.state[name]) for name in ("indptr", "data", "indices"))
        counts = np.diff(starts)
        # Before the repetition below, which allocates as much as the counts say.
        if (
            starts.shape != (columns + 1,)
            or starts.dtype.kind not in "iu"
            or starts[0] != 0
            or starts[-1] != len(values)
            or (starts[1:] < starts[:-1]).any()
            or values.shape != indices.shape
        ):
            raise ValueError("a sparse matrix is inconsistent")
        matrix = np.zeros((rows, columns))
        np.add.at(matrix, (indices, np.repeat(np.arange(columns), counts)), values)
        return matrix


class _Chumpy(_State):
    """chumpy.Ch: an array with a history."""

    def dense(self) -> NDArray[Any]:
        return _dense(self.state["x"])


class _ChumpySelect(_State):
    """chumpy.reordering.Select: elements of another array, in another shape."""

    def dense(self) -> NDArray[Any]:
        chosen: NDArray[Any] = _dense(self.state["a"]).ravel()[_dense(self.state["idxs"])]
        return chosen.reshape(self.state["preferred_shape"])


class _Dtype:
    """numpy.dtype, for plain numbers only."""

    def __init__(self, name: object, *_flags: object) -> None:
        if not isinstance(name, str) or name[:1] not in "fiub" or not name[1:].isdigit():
            raise pickle.UnpicklingError(f"the element type {name!r} isn't allowed")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """numpy.ndarray, without numpy's own parser of the state."""

    def __init__(self, *_: object) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, element, columns_first, content = state
        raw = content.encode("latin1") if isinstance(content, str) else content
        self.values = np.frombuffer(raw, element.dtype).reshape(shape, order="F" if columns_first else "C")

    def dense(self) -> NDArray[Any]:
        return self.values


def _array_of_buffer(content: object, element: object, shape: object, order: object) -> _Array:
    """Numpy's _frombuffer, with which pickles of protocol 5 hold arrays."""
    if not isinstance(content, bytes | bytearray) or not isinstance(element, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of other things than numbers isn't allowed")
    array = _Array()
    array.__setstate__((1, shape, element, order == "F", bytes(content)))
    return array


def _encode(text: object, encoding: object) -> bytes:
    """_codecs.encode, with which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("only bytes may be encoded")
    return text.encode("latin1")


def _dense(value: Any) -> NDArray[Any]:
    if isinstance(value, _Array | _SparseColumns | _Chumpy | _ChumpySelect):
        return value.dense()
    raise ValueError(f"expected an array, got {type(value).__name__}")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
    ("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("scipy.sparse.csc", "csc_matrix"): _SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): _SparseColumns,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy.reordering", "Select"): _ChumpySelect,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a hand model doesn't need") from None


def load_mano(path: Path) -> ManoArrays:
    """Reads MANO_RIGHT.pkl.

    Raises:
        CheckpointError: the file can't be read, names other things than arrays, or isn't a hand model.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_BYTES >> 20} MiB: is this MANO_RIGHT.pkl?")
        raw = path.read_bytes()
        _check_memo(raw)
        # The byte strings of Python 2 are read as latin1 text, which _Array turns back into bytes.
        content = _RestrictedUnpickler(io.BytesIO(raw), encoding="latin1").load()
        return _arrays(content)
    except CheckpointError:
        raise
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror}") from e
    except pickle.UnpicklingError as e:
        raise CheckpointError(f"{path}: refused: {e}") from e
    except KeyError as e:
        raise CheckpointError(f"{path}: has no {e.args[0]!r}: is this MANO_RIGHT.pkl?") from e
    except Exception as e:  # a broken pickle raises nearly anything
        raise CheckpointError(f"{path}: not a MANO pickle: {e}") from e


def _check_memo(raw: bytes) -> None:
    """Refuses numbers of remembered objects that are beyond reason: the unpickler allocates a place for each below it."""
    for opcode, argument, _ in pickletools.genops(raw):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) not in range(_MAX_MEMO):
            raise pickle.UnpicklingError(f"it numbers an object {argument}")


def _arrays(content: Any) -> ManoArrays:
    if not isinstance(content, dict):
        raise ValueError("it isn't a dictionary")
    v_template = _dense(content["v_template"])
    parents = _dense(content["kintree_table"])[0].astype(np.int64)
    parents[parents == 2**32 - 1] = -1  # the root's parent, as an unsigned 32-bit number
    posedirs = _dense(content["posedirs"])
    joints = len(parents)
    arrays = ManoArrays(
        v_template=v_template.astype(np.float32),
        shapedirs=_dense(content["shapedirs"])[..., :10].astype(np.float32),
        posedirs=np.ascontiguousarray(posedirs.reshape(-1, posedirs.shape[-1]).T.astype(np.float32)),
        j_regressor=_dense(content["J_regressor"]).astype(np.float32),
        lbs_weights=_dense(content["weights"]).astype(np.float32),
        parents=parents,
        faces=_dense(content["f"]).astype(np.int64),
    )
    n = len(v_template)
    if n > MAX_VERTICES:
        raise ValueError(f"v_template has {n} vertices, more than {MAX_VERTICES}")
    for name, shape in (
        ("v_template", (n, 3)),
        ("shapedirs", (n, 3, 10)),
        ("posedirs", ((joints - 1) * 9, n * 3)),
        ("j_regressor", (joints, n)),
        ("lbs_weights", (n, joints)),
        ("faces", (len(arrays.faces), 3)),
    ):
        found = getattr(arrays, name).shape
        if found != shape:
            raise ValueError(f"{name} has shape {found}, expected {shape}")
    return arrays
