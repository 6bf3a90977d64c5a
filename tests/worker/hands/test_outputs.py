"""The table of what is known of a hand, and everything that must agree with it."""

import json
from dataclasses import fields

import numpy as np
import pytest

from worker.hands.detection import Hands
from worker.hands.outputs import DETECTED, OUTPUTS, REFINED, VERTICES, WRITTEN, Output, Source, Unit
from worker.results import SCHEMA

HAND_SCHEMA = json.loads(SCHEMA.read_text())["properties"]["hands"]["items"]
JSON_TYPES = {Unit.FLAG: "boolean"}


def test_names_and_fields_are_unique():
    """No two rows have the same name, or the same field."""
    assert len({output.name for output in OUTPUTS}) == len(OUTPUTS)
    assert len({output.field for output in WRITTEN}) == len(WRITTEN)


def test_hands_hold_what_is_detected():
    """The arrays of Hands are the rows of the table, in their order."""
    assert [field.name for field in fields(Hands)] == [output.name for output in DETECTED]


def test_poses_hold_the_rest():
    """HandPoses has every other row, and besides only what belongs to the crop."""
    pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")
    from worker.hamer.poses import HandPoses

    names = {field.name for field in fields(HandPoses)}
    assert names - {output.name for output in REFINED} == {"crops", "finite"}
    assert names >= {output.name for output in REFINED}


def shape_of(schema: dict) -> tuple[int, ...]:
    """Returns the shape of what a schema describes; VERTICES for a list of any length."""
    if "items" not in schema:
        return ()
    assert schema.get("minItems") == schema.get("maxItems")
    return (schema.get("minItems", VERTICES), *shape_of(schema["items"]))


def test_the_schema_has_the_written_ones():
    """Hands in results have the fields of the table in its order; those of the detector are required."""
    assert list(HAND_SCHEMA["properties"]) == [output.field for output in WRITTEN]
    assert HAND_SCHEMA["required"] == [output.field for output in DETECTED]


@pytest.mark.parametrize("output", WRITTEN, ids=lambda output: output.field)
def test_the_schema_has_their_shapes(output: Output):
    """Shape, type and null are those of the table."""
    schema = HAND_SCHEMA["properties"][output.field]
    assert shape_of(schema) == output.shape
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert ("null" in types) == output.nullable
    assert types[0] == ("array" if output.shape else JSON_TYPES.get(output.unit, "number"))
    if output.source is not Source.DETECTOR:
        assert schema["description"].startswith("HaMeR")


def test_rows_are_split_as_they_were_joined():
    """Each output lies once in a row; with the mesh the vertices come last."""
    torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")
    from worker.hamer.rows import RowLayout

    for vertices in (0, 7):
        layout = RowLayout(vertices=vertices)
        assert ("vertices" in layout.shapes) == bool(vertices)
        for count in (0, 1, 3):
            numbers = np.arange(count * layout.length, dtype=np.float32).reshape(count, layout.length)
            outputs = layout.split(numbers)
            assert [(name, value.shape[1:]) for name, value in outputs.items()] == list(layout.shapes.items())
            joined = layout.join({name: torch.from_numpy(value) for name, value in outputs.items()})
            assert np.array_equal(joined.numpy(), numbers)
