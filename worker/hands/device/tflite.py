"""Reads the graph of a .tflite file: its operations in order, and its constants. Numpy only.

Numbers of fields and operators are those of TensorFlow Lite's schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.hands.device.flatbuffer import FlatBufferError, Table

OPERATORS = {
    0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 34: "PAD",
    40: "MEAN", 54: "PRELU", 124: "DENSIFY",
}  # fmt: skip
"""Those that the hand models have."""

# Fields of the table of an operator's options: name -> (number in the schema, letter in the module struct).
_OPTIONS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "ADD": {"activation": (0, "b")},
    "CONCATENATION": {"axis": (0, "i"), "activation": (1, "b")},
    "CONV_2D": {"valid": (0, "b"), "stride": (2, "i"), "activation": (3, "b"), "dilation": (5, "i")},
    "DEPTHWISE_CONV_2D": {"valid": (0, "b"), "stride": (2, "i"), "activation": (4, "b"), "dilation": (6, "i")},
    "DEPTH_TO_SPACE": {"block": (0, "i")},
    "FULLY_CONNECTED": {"activation": (0, "b"), "format": (1, "b")},
    "MAX_POOL_2D": {"valid": (0, "b"), "stride": (2, "i"), "filter": (4, "i"), "activation": (5, "b")},
    "RESIZE_BILINEAR": {"align_corners": (2, "b"), "half_pixel_centers": (3, "b")},
}
_DEFAULTS = {"dilation": 1}

_TYPES: Mapping[int, type[np.generic]] = {0: np.float32, 1: np.float16, 2: np.int32}
_INDEX_TYPES: Mapping[int, type[np.generic]] = {1: np.int32, 2: np.uint16, 3: np.uint8}
_CSR = 1

Array = NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """One operation. Tensors are numbers; those that are constants are in `Graph.constants`."""

    name: str
    """Of OPERATORS."""
    inputs: tuple[int, ...]
    output: int
    options: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """A network."""

    shapes: Mapping[int, tuple[int, ...]]
    """Of each tensor, in the order batch, height, width, channels; the batch is 1."""
    constants: Mapping[int, Array]
    """Weights are float32, however the file stores them."""
    operations: tuple[Operation, ...]
    """In an order in which they can be computed, without those that only unpack constants."""
    input: int
    outputs: tuple[int, ...]
    """In the order of their names."""


def read_graph(file: Path) -> Graph:
    """Returns the graph of a .tflite file.

    Raises:
        ValueError: it isn't one, or has parts that the hand models don't have; the text names the file.
        OSError: it can't be read.
    """
    data = file.read_bytes()
    try:
        return _graph(Table.root(data))
    except (FlatBufferError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{file} can't be used: {error}") from error


def _graph(model: Table) -> Graph:
    graph, *others = model.tables(2)
    if others:
        raise ValueError("it has more than one graph")
    codes = [max(code.integer(0, "b"), code.integer(3, "i")) for code in model.tables(1)]
    buffers, tensors = list(model.tables(4)), list(graph.tables(0))
    shapes = {i: tuple(tensor.numbers(0, np.int32).tolist()) for i, tensor in enumerate(tensors)}
    constants: dict[int, Array] = {}
    for i, tensor in enumerate(tensors):
        stored = buffers[tensor.integer(2, "I")]
        if stored.numbers(0, np.uint8).size:
            constants[i] = _constant(tensor, stored, shapes[i])
    operations = []
    for row in graph.tables(3):
        code = codes[row.integer(0, "I")]
        if code not in OPERATORS:
            raise ValueError(f"operator {code} isn't known")
        name, options = OPERATORS[code], row.table(4)
        inputs, outputs = row.numbers(1, np.int32).tolist(), row.numbers(2, np.int32).tolist()
        (output,) = outputs
        if name in ("DEQUANTIZE", "DENSIFY"):
            constants[output] = constants[inputs[0]].astype(np.float32)
            continue
        fields = {
            field: options.integer(number, kind, _DEFAULTS.get(field, 0)) if options else _DEFAULTS.get(field, 0)
            for field, (number, kind) in _OPTIONS.get(name, {}).items()
        }
        operations.append(Operation(name, tuple(inputs), output, fields))
    outputs = graph.numbers(2, np.int32).tolist()
    (given,) = graph.numbers(1, np.int32).tolist()
    named = sorted(outputs, key=lambda output: tensors[output].text(3))
    return Graph(shapes, constants, tuple(operations), given, tuple(named))


def _constant(tensor: Table, stored: Table, shape: tuple[int, ...]) -> Array:
    kind = tensor.integer(1, "b")
    if kind not in _TYPES:
        raise ValueError(f"a tensor has type {kind}")
    values = np.frombuffer(stored.numbers(0, np.uint8).tobytes(), np.dtype(_TYPES[kind]).newbyteorder("<"))
    sparsity = tensor.table(6)
    return values.reshape(shape) if sparsity is None else _dense(values, sparsity, shape)


def _dense(values: Array, sparsity: Table, shape: tuple[int, ...]) -> Array:
    """Returns a sparse tensor with its zeros. Only the last dimension may be sparse: rows of which the columns are stored."""
    dimensions = list(sparsity.tables(2))
    order, blocks = sparsity.numbers(0, np.int32).tolist(), sparsity.numbers(1, np.int32)
    sparse = [dimension.integer(0, "b") == _CSR for dimension in dimensions]
    if blocks.size or order != list(range(len(shape))) or sparse != [False] * (len(shape) - 1) + [True]:
        raise ValueError("a tensor is sparse in a way that isn't known")
    last = dimensions[-1]
    ends, columns = (_indices(last, field) for field in (2, 4))
    rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    dense = np.zeros((int(np.prod(shape[:-1])), shape[-1]), values.dtype)
    dense[rows, columns] = values
    return dense.reshape(shape)


def _indices(dimension: Table, field: int) -> NDArray[np.int64]:
    vector = dimension.table(field + 1)
    kind = _INDEX_TYPES[dimension.integer(field, "B")]
    return np.zeros(0, np.int64) if vector is None else vector.numbers(0, kind).astype(np.int64)
