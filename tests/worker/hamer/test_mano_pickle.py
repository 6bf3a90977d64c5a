"""MANO_RIGHT.pkl, read without trusting it."""

import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.errors import CheckpointError  # noqa: E402
from worker.hamer.mano_pickle import load_mano  # noqa: E402


def test_same_arrays_as_in_the_checkpoint(golden: SimpleNamespace, tensors: Mapping[str, Any]):
    """The pickle's chumpy, scipy and numpy objects become the arrays of the official checkpoint."""
    hand = load_mano(golden.mano)
    for ours, key, bound in (
        (hand.v_template, "v_template", 1e-7),
        (hand.shapedirs, "shapedirs", 1e-7),
        (hand.posedirs, "posedirs", 1e-5),  # the bundle's pickle keeps these in 16 bits
        (hand.j_regressor, "J_regressor", 1e-7),
        (hand.lbs_weights, "lbs_weights", 1e-7),
        (hand.parents, "parents", 0),
        (hand.faces, "faces_tensor", 0),
    ):
        theirs = tensors[f"mano.{key}"].numpy()
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= bound


class Calls:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_and_does_not_run(protocol: int, tmp_path: Path):
    """A pickle that would run a command is refused; the error names the function, and nothing runs."""
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps({"f": Calls(os.system, f"touch {tmp_path}/ran")}, protocol))
    with pytest.raises(CheckpointError, match=r"refused: it names (posix|nt)\.system"):
        load_mano(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "builtins getattr",
        "__builtin__ __import__",
        "numpy.core.multiarray scalar",
        "numpy load",
        "numpy.f2py.crackfortran myeval",
        "scipy.sparse.csc csc_matrix.__init__",
        "chumpy.ch Ch.state",
        "worker.hamer.mano_pickle _ALLOWED",
    ],
)
def test_only_listed_names_are_known(name: str, tmp_path: Path):
    """Names close to the allowed ones, also dotted ones, are refused."""
    module, attribute = name.split()
    path = tmp_path / "MANO_RIGHT.pkl"
    text = [bytes([0x8C, len(part)]) + part.encode() for part in (module, attribute)]
    path.write_bytes(b"\x80\x04" + b"".join(text) + b"\x93.")
    with pytest.raises(CheckpointError, match="refused: it names"):
        load_mano(path)


def test_arrays_of_objects_are_refused(tmp_path: Path):
    """Arrays of anything but numbers are refused."""
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps({"f": np.array([{}, None], object)}, 2))
    with pytest.raises(CheckpointError, match="refused: the element type 'O8' isn't allowed"):
        load_mano(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a MANO pickle"),
        (b"\x80\x02}q\x00.", "has no 'v_template'"),
        (b"\x80\x02]q\x00.", "it isn't a dictionary"),
        (pickle.dumps({"v_template": 3}, 2), "expected an array, got int"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path):
    """A file that isn't a hand model is one clear error with its name."""
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as e:
        load_mano(path)
    assert str(path) in str(e.value)


def test_inconsistent_hands_are_refused(tmp_path: Path):
    """Arrays whose sizes don't match are an error that names one of them."""
    numbers = {
        "v_template": np.zeros((5, 3)),
        "shapedirs": np.zeros((5, 3, 10)),
        "posedirs": np.zeros((5, 3, 9)),
        "J_regressor": np.zeros((2, 5)),
        "weights": np.zeros((4, 2)),
        "kintree_table": np.array([[2**32 - 1, 0], [0, 1]]),
        "f": np.zeros((1, 3), np.uint32),
    }
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(numbers, 2))
    with pytest.raises(CheckpointError, match=r"lbs_weights has shape \(4, 2\), expected \(5, 2\)"):
        load_mano(path)
    numbers["weights"] = np.asfortranarray(np.arange(10.0).reshape(5, 2))
    path.write_bytes(pickle.dumps(numbers, 2))
    hand = load_mano(path)
    assert hand.lbs_weights.tolist() == np.arange(10.0).reshape(5, 2).tolist()
    assert hand.parents.tolist() == [-1, 0]


def hand_of(regressor: object) -> dict[str, Any]:
    """Returns a hand of five vertices with the given joint regressor."""
    return {
        "v_template": np.zeros((5, 3)),
        "shapedirs": np.zeros((5, 3, 10)),
        "posedirs": np.zeros((5, 3, 9)),
        "J_regressor": regressor,
        "weights": np.zeros((5, 2)),
        "kintree_table": np.array([[2**32 - 1, 0], [0, 1]]),
        "f": np.zeros((1, 3), np.uint32),
    }


class Sparse:
    """Pickles like a scipy.sparse.csc_matrix."""

    def __init__(self, **state: object) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return Stand, (), self.state


class Stand:
    pass


Stand.__module__, Stand.__qualname__ = "scipy.sparse._csc", "csc_matrix"


@pytest.mark.parametrize(
    ("shape", "starts", "indices", "message"),
    [
        ((40_000, 40_000), np.zeros(40_001, int), np.zeros(0, int), "a sparse matrix of 40000 x 40000"),
        ((-1, 5), np.zeros(6, int), np.zeros(0, int), "a sparse matrix of -1 x 5"),
        ((2, 5), np.array([0, 1 << 40, 0, 0, 0, 1]), np.zeros(1, int), "inconsistent"),
        ((2, 5), np.array([-(1 << 40), 0, 0, 0, 0, 1]), np.zeros(1, int), "inconsistent"),
        ((2, 5), np.array([0, 0, 0, 0, 0, 1.5]), np.zeros(1, int), "inconsistent"),
        ((2, 5), np.zeros(5, int), np.zeros(0, int), "inconsistent"),
        ((2, 5), np.array([0, 1, 1, 1, 1, 1]), np.array([2]), "not a MANO pickle"),
    ],
)
def test_sparse_matrices_are_checked_before_they_are_filled(
    shape: tuple[int, int],
    starts: np.ndarray,
    indices: np.ndarray,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """A sparse matrix that is larger than any hand's, or whose counts contradict its numbers, allocates nothing."""
    for package in ("scipy", "scipy.sparse", "scipy.sparse._csc"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    sys.modules["scipy.sparse._csc"].csc_matrix = Stand  # type: ignore[attr-defined]
    path = tmp_path / "MANO_RIGHT.pkl"
    matrix = Sparse(_shape=shape, indptr=starts, indices=indices, data=np.zeros(len(indices)))
    path.write_bytes(pickle.dumps(hand_of(matrix), 4))
    with pytest.raises(CheckpointError, match=message):
        load_mano(path)


def test_numbers_of_remembered_objects_are_bounded(tmp_path: Path):
    """An unpickler allocates a place for each remembered object below the highest number: 8 GB for these ten bytes."""
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(b"\x80\x02}r" + (1 << 30).to_bytes(4, "little") + b".")
    with pytest.raises(CheckpointError, match="refused: it numbers an object 1073741824"):
        load_mano(path)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_hands_saved_again(protocol: int, tmp_path: Path):
    """A hand model that was saved again, with any protocol, holds the same arrays."""
    path = tmp_path / "MANO_RIGHT.pkl"
    hand = hand_of(np.asfortranarray(np.arange(10.0).reshape(2, 5)))
    path.write_bytes(pickle.dumps(hand, protocol))
    assert load_mano(path).j_regressor.tolist() == hand["J_regressor"].tolist()


def test_arrays_of_objects_in_protocol_5_are_refused(tmp_path: Path):
    """With protocol 5, too, arrays of anything but numbers are refused."""
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(hand_of(np.array([{}, None], object)), 5))
    with pytest.raises(CheckpointError, match="refused: the element type 'O8' isn't allowed"):
        load_mano(path)


def test_files_too_large_for_a_hand_are_refused(tmp_path: Path):
    """A file of gigabytes isn't read."""
    path = tmp_path / "MANO_RIGHT.pkl"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(CheckpointError, match="larger than 256 MiB"):
        load_mano(path)


def test_missing_file(tmp_path: Path):
    """A missing file is named."""
    with pytest.raises(CheckpointError, match=r"nothing\.pkl: No such file"):
        load_mano(tmp_path / "nothing.pkl")
