"""The graphs of the model files."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from worker.hands.device.tflite import OPERATORS, read_graph

MODELS = ["palm", "landmarks", "persons", "pose"]


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_the_one_that_litert_reads(models, name):
    """Input and outputs have the same shapes, in the same order, and every operation's input is there before it."""
    file = getattr(models, name)
    graph, interpreter = read_graph(file), Interpreter(model_path=str(file))
    given = interpreter.get_input_details()[0]
    outputs = sorted(interpreter.get_output_details(), key=lambda output: output["name"])
    assert (graph.input, graph.shapes[graph.input]) == (given["index"], tuple(given["shape"]))
    assert [(i, graph.shapes[i]) for i in graph.outputs] == [(o["index"], tuple(o["shape"])) for o in outputs]
    known = {graph.input, *graph.constants}
    for operation in graph.operations:
        assert operation.name in OPERATORS.values()
        assert set(operation.inputs) <= known
        known.add(operation.output)
    assert set(graph.outputs) <= known


def test_weights_are_float32_without_gaps(models):
    """Half precision and sparse weights are unpacked: the person model stores the latter."""
    graph = read_graph(models.persons)
    weights = [graph.constants[each.inputs[1]] for each in graph.operations if each.name == "CONV_2D"]
    assert all(weight.dtype == np.float32 and weight.ndim == 4 for weight in weights)
    shares = [float((weight == 0).mean()) for weight in weights]
    assert max(shares) > 0.3
    assert min(shares) < 0.1


@pytest.mark.parametrize("length", [0, 3, 8, 1000, 100_000, 2_300_000])
def test_a_damaged_file_is_an_error(models, tmp_path, length):
    """With its name; what lies behind its end isn't read."""
    file = tmp_path / "cut.tflite"
    file.write_bytes(models.palm.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"cut\.tflite"):
        read_graph(file)
