"""A graph of a .tflite file as a torch module: the same operations, for batches of any size.

Tensors with height and width are (batch, channels, height, width) inside. The input is (batch, height, width, channels), and
what leaves through a RESHAPE is in that order, too, as in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from worker.hands.device.tflite import Graph, Operation

_NONE, _RELU6 = 0, 3
"""Activations, by their numbers in TensorFlow Lite's schema."""


class Network(nn.Module):
    """A network that computes some of the graph's outputs."""

    def __init__(self, graph: Graph, outputs: tuple[int, ...]) -> None:
        """Builds it on the CPU, in float32.

        Args:
            graph: the network.
            outputs: numbers of the wanted outputs, in the order of their names; what only others need isn't computed.

        Raises:
            ValueError: an operation has options that the hand models don't have.
        """
        super().__init__()
        self._input = graph.input
        self._outputs = tuple(graph.outputs[number] for number in outputs)
        self._operations = _needed(graph.operations, self._outputs)
        self.steps = nn.ModuleList(_BUILD[each.name](each, graph) for each in self._operations)
        self._given = [tuple(i for i in each.inputs if i not in graph.constants) for each in self._operations]
        last = {i: step for step, inputs in enumerate(self._given) for i in inputs}
        self._ends = [
            [i for i in set(inputs) if last[i] == step and i not in self._outputs]
            for step, inputs in enumerate(self._given)
        ]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs for (batch, height, width, 3) inputs, each (batch, ...)."""
        values = {self._input: images.permute(0, 3, 1, 2)}
        for operation, step, given, ends in zip(self._operations, self.steps, self._given, self._ends, strict=True):
            values[operation.output] = step(*(values[i] for i in given))
            for i in ends:
                del values[i]
        return tuple(values[i] for i in self._outputs)


def _needed(operations: tuple[Operation, ...], outputs: tuple[int, ...]) -> tuple[Operation, ...]:
    wanted, kept = set(outputs), []
    for operation in reversed(operations):
        if operation.output in wanted:
            wanted.update(operation.inputs)
            kept.append(operation)
    return tuple(reversed(kept))


class Convolution(nn.Module):
    """A convolution, or a depthwise one, with its bias and activation."""

    def __init__(self, operation: Operation, graph: Graph) -> None:
        """Takes weights and options from the graph."""
        super().__init__()
        given, weight, bias = operation.inputs
        depthwise = operation.name == "DEPTHWISE_CONV_2D"
        # The file has (out, height, width, in), or for a depthwise one (1, height, width, out).
        self.weight = _constant(graph, weight, (3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        self.bias = _constant(graph, bias)
        self._groups = len(self.weight) if depthwise else 1
        self._stride = operation.options["stride"]
        _require(operation, dilation=1)
        self._limit = _limits_to_six(operation)
        _, height, width, _ = graph.shapes[given]
        rows, columns = self.weight.shape[2:]
        padded = not operation.options["valid"]
        top, bottom = _same(height, rows, self._stride) if padded else (0, 0)
        left, right = _same(width, columns, self._stride) if padded else (0, 0)
        even = top == bottom and left == right
        self._pad = None if even else (left, right, top, bottom)
        self._padding = (top, left) if even else (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the convolved (batch, channels, height, width)."""
        if self._pad:
            x = F.pad(x, self._pad)
        x = F.conv2d(x, self.weight, self.bias, self._stride, self._padding, 1, self._groups)
        return x.clamp_(0, 6) if self._limit else x


class Linear(nn.Module):
    """A fully connected layer."""

    def __init__(self, operation: Operation, graph: Graph) -> None:
        """Takes weights from the graph."""
        super().__init__()
        _require(operation, activation=_NONE, format=0)
        self.weight, self.bias = (_constant(graph, i) for i in operation.inputs[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Returns (batch, out)."""
        return F.linear(x.flatten(1), self.weight, self.bias)


class PReLU(nn.Module):
    """A PReLU with a slope for each channel."""

    def __init__(self, operation: Operation, graph: Graph) -> None:
        """Takes the slopes from the graph."""
        super().__init__()
        self.slope = _constant(graph, operation.inputs[1]).flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Returns x where it is positive, else x times the slope."""
        return F.prelu(x, self.slope)


class Step(nn.Module):
    """An operation without weights."""

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        """Takes the function that it is."""
        super().__init__()
        self._compute = compute

    def forward(self, *inputs: Tensor) -> Tensor:
        """Returns the function's value."""
        return self._compute(*inputs)


def _add(operation: Operation, _graph: Graph) -> Step:
    return Step((lambda a, b: (a + b).clamp_(0, 6)) if _limits_to_six(operation) else torch.add)


def _concatenation(operation: Operation, _graph: Graph) -> Step:
    _require(operation, axis=1, activation=_NONE)  # of (batch, anchors, numbers)
    return Step(lambda *parts: torch.cat(parts, 1))


def _depth_to_space(operation: Operation, _graph: Graph) -> Step:
    block = operation.options["block"]

    def compute(x: Tensor) -> Tensor:
        # Unlike torch's pixel_shuffle, the file has the place in the block before the channel.
        batch, channels, height, width = x.shape
        x = x.reshape(batch, block, block, channels // block**2, height, width)
        return x.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block, width * block)

    return Step(compute)


def _max_pool(operation: Operation, _graph: Graph) -> Step:
    _require(operation, activation=_NONE, stride=2, filter=2)  # halves an even size, so that nothing is padded
    return Step(lambda x: F.max_pool2d(x, 2))


def _mean(operation: Operation, graph: Graph) -> Step:
    if graph.constants[operation.inputs[1]].reshape(-1).tolist() != [1, 2]:
        raise ValueError("a mean isn't over height and width")
    return Step(lambda x: x.mean((2, 3)))


def _pad(operation: Operation, graph: Graph) -> Step:
    _, *sides = cast("np.ndarray[tuple[int, int], np.dtype[np.int32]]", graph.constants[operation.inputs[1]]).tolist()
    (top, bottom), (left, right), (front, back) = sides
    pad = (left, right, top, bottom, front, back)
    return Step(lambda x: F.pad(x, pad))


def _reshape(operation: Operation, graph: Graph) -> Step:
    shape = graph.shapes[operation.output][1:]
    return Step(lambda x: (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).reshape(len(x), *shape))


def _resize(operation: Operation, graph: Graph) -> Step:
    _require(operation, align_corners=0, half_pixel_centers=1)
    _, height, width, _ = graph.shapes[operation.output]
    return Step(lambda x: F.interpolate(x, (height, width), mode="bilinear", align_corners=False))


_BUILD: Mapping[str, Callable[[Operation, Graph], nn.Module]] = {
    "ADD": _add,
    "CONCATENATION": _concatenation,
    "CONV_2D": Convolution,
    "DEPTHWISE_CONV_2D": Convolution,
    "DEPTH_TO_SPACE": _depth_to_space,
    "FULLY_CONNECTED": Linear,
    "LOGISTIC": lambda _operation, _graph: Step(torch.sigmoid),
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "PAD": _pad,
    "PRELU": PReLU,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
}


def _constant(graph: Graph, number: int, order: tuple[int, ...] | None = None) -> nn.Parameter:
    array = graph.constants[number]
    array = np.ascontiguousarray(array if order is None else array.transpose(order), np.float32)
    return nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the padding before and after for TensorFlow's SAME: an odd pixel goes to the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _limits_to_six(operation: Operation) -> bool:
    activation = operation.options["activation"]
    if activation not in (_NONE, _RELU6):
        raise ValueError(f"{operation.name} has activation {activation}")
    return activation == _RELU6


def _require(operation: Operation, **options: int) -> None:
    for name, value in options.items():
        if operation.options[name] != value:
            raise ValueError(f"{operation.name} has {name} {operation.options[name]} instead of {value}")
