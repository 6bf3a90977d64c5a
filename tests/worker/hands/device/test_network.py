"""The networks as torch modules, compared with LiteRT."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from worker.hands.device.network import Network
from worker.hands.device.tflite import read_graph
from worker.hands.landmarks import LANDMARKS
from worker.hands.litert_engine import Model
from worker.hands.palm import PALMS
from worker.hands.persons import PERSONS
from worker.hands.poses import POSES

PIXELS, LOGITS = 2e-3, 5e-4
"""The largest differences."""


@pytest.mark.parametrize("network", [PALMS, PERSONS], ids=lambda network: network.file)
def test_the_anchors_are_those_of_litert(models, pictures, network):
    """In float32, for a batch of pictures and parts of them: log odds within 5e-4, likely anchors within 2e-3 pixels."""
    values = network.values(np.stack([shown(part, network.size) for part in parts_of(pictures)]))
    found, expected = outputs_of(models, network, (0, 1), values)
    (numbers, logits), (true_numbers, true_logits) = found, expected
    np.testing.assert_allclose(logits, true_logits, rtol=1e-5, atol=LOGITS)
    likely = true_logits[:, :, 0] > network.min_logit - 1
    assert likely.sum() > 5
    np.testing.assert_allclose(numbers[likely], true_numbers[likely], rtol=0, atol=PIXELS)


@pytest.mark.parametrize("network", [LANDMARKS, POSES], ids=lambda network: network.file)
def test_joints_are_those_of_litert(models, pictures, network):
    """In float32: probabilities within 5e-4 of their log odds, joints of what is there within 2e-3 pixels."""
    values = network.values(np.stack([shown(part, network.size) for part in parts_of(pictures)]))
    (joints, *others), (true_joints, *true_others) = outputs_of(models, network, network.outputs, values)
    for found, expected in zip(others, true_others, strict=True):
        found, expected = (np.log(each / (1 - each)) for each in (found, expected))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=LOGITS)
    there = true_others[0][:, 0] > 0.5
    assert there.sum() >= 2
    np.testing.assert_allclose(joints[there], true_joints[there], rtol=0, atol=PIXELS)


def parts_of(pictures):
    """Returns pictures, and parts of them that show one hand or one person."""
    one, people, photos = pictures["one"], pictures["people"], pictures["hands.jpg"]
    return [
        pictures["pair"],
        people,
        photos,
        one[100:400, 170:470],
        photos[240:, 320:],
        people[:, :480],
        people[:, 480:],
    ]


def shown(part, size):
    """Returns a picture at a network's size."""
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)[:, :, ::-1]


def outputs_of(models, network, wanted, values):
    """Returns the wanted outputs of the torch module and those of LiteRT."""
    file = getattr(models, network.file)
    with torch.inference_mode():
        found = [output.numpy() for output in Network(read_graph(file), wanted).eval()(torch.from_numpy(values))]
    lite, expected = Model(file), []
    for one in values:
        lite.run(one[None])
        expected.append([lite.output(number)[0].copy() for number in wanted])
    return found, [np.stack(each) for each in zip(*expected, strict=True)]


def test_what_is_not_wanted_is_not_computed(models):
    """The pose model's mask and heat maps take a third of its operations."""
    graph = read_graph(models.pose)
    assert len(Network(graph, (0, 1)).steps) < len(Network(graph, (0, 1, 2, 3, 4)).steps)


@pytest.mark.parametrize(
    ("operator", "option", "value"),
    [("CONV_2D", "activation", 1), ("CONV_2D", "dilation", 2), ("MAX_POOL_2D", "stride", 1),
     ("RESIZE_BILINEAR", "half_pixel_centers", 0), ("CONCATENATION", "axis", 2)],
)  # fmt: skip
def test_other_options_are_refused(models, operator, option, value):
    """A file with options that the hand models don't have would be computed wrongly."""
    graph = read_graph(models.palm)
    changed = tuple(
        replace(each, options={**each.options, option: value}) if each.name == operator else each
        for each in graph.operations
    )
    with pytest.raises(ValueError, match=operator):
        Network(replace(graph, operations=changed), (0, 1))
