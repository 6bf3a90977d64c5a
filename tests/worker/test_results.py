"""The JSON of a counted frame."""

import json

import jsonschema
import numpy as np
import pytest

from worker.hands.detection import Dropped, Hands
from worker.results import SCHEMA, VERSION, FrameResult, dropped_objects, hand_objects, hands_of_objects

KEYPOINTS = np.stack([np.full((21, 2), np.nan), np.arange(42).reshape(21, 2) / 3]).astype(np.float32)
TWO_HANDS = Hands(
    boxes=np.array([[1.234567, 2, 30, 40], [5, 6, 7, 8]], np.float32),
    is_right=np.array([True, False]),
    scores=np.array([0.9, 0.51234567], np.float32),
    keypoints=KEYPOINTS,
)


def result(hands: Hands) -> FrameResult:
    """A result with these hands."""
    return FrameResult("cam1", 12.5, "palm", "litert", 640, 480, hands, decode_s=0.0031, detect_s=0.0412)


@pytest.fixture(scope="module")
def schema() -> dict:
    """The committed schema, itself checked."""
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


@pytest.mark.parametrize("hands", [TWO_HANDS, Hands.empty()], ids=["two", "none"])
@pytest.mark.parametrize(("entry_id", "age"), [("1700000000123-4", 0.25), (None, None)])
def test_results_follow_the_schema(schema: dict, hands: Hands, entry_id: str | None, age: float | None) -> None:
    """With and without hands, from the queue and from elsewhere."""
    written = json.loads(result(hands).to_json(entry_id, age))
    jsonschema.validate(written, schema)
    assert written["version"] == VERSION == 1
    assert written["hand_count"] == len(written["hands"]) == len(hands)


def test_every_field_has_its_value(schema: dict) -> None:
    """Pixels have two decimals, joints that weren't trusted are null, and the schema describes every field."""
    written = json.loads(result(TWO_HANDS).to_json("1-2", 0.25))
    assert set(written) == set(schema["properties"]) - {"dropped"}  # only `detect --explain` has them
    assert written["entry_id"] == "1-2"
    assert (written["stream_name"], written["ts"], written["backend"]) == ("cam1", 12.5, "palm")
    assert written["image"] == {"width": 640, "height": 480}
    assert written["timings"] == {"queue_age": 0.25, "decode": 0.0031, "detect": 0.0412}
    first, second = written["hands"]
    assert first == {"box": [1.23, 2.0, 30.0, 40.0], "is_right": True, "score": 0.9, "keypoints": None}
    assert (second["is_right"], second["score"]) == (False, 0.5123)
    assert second["keypoints"][1] == [0.67, 1.0]


@pytest.mark.parametrize(
    "hands",
    [TWO_HANDS, TWO_HANDS[:1], TWO_HANDS[1:], Hands.empty()],
    ids=["two", "without joints", "with joints", "none"],
)
def test_hands_can_be_read_back(hands: Hands) -> None:
    """What was written gives the same hands, but for the decimals."""
    objects = json.loads(json.dumps(hand_objects(hands)))
    again = hands_of_objects(objects)
    assert hand_objects(again) == objects
    for name, values in hands.values().items():
        assert np.allclose(again.values()[name], values, atol=0.005, equal_nan=True)


def test_dropped_hands_have_a_reason(schema: dict) -> None:
    """They have the detector's fields, and the verdict on them."""
    dropped = Dropped(TWO_HANDS, ["off_centre", "duplicate"], ["beside the box", "the same hand"])
    objects = dropped_objects(dropped)
    assert [each.pop("reason") for each in objects] == dropped.verdicts
    assert objects == hand_objects(TWO_HANDS)
    jsonschema.validate(result(TWO_HANDS).fields() | {"dropped": dropped_objects(dropped)}, schema)
