from typing import Any

import pytest

from console.web.explain import explain

NOW = 1_700_000_000.0
ROW: dict[str, Any] = {
    "limit": 2.0, "limit_source": "override", "invalid": "", "stale": False, "state": "live", "heard_at": NOW,
    "source_fps": 25.0, "skipped": 0, "last_skip": "", "camera": "", "camera_error": "",
}  # fmt: skip
DENIED = {"reason": "too_soon", "next_ts": NOW + 0.3}


@pytest.mark.parametrize(
    ("row", "decision", "field", "sentence"),
    [
        ({}, DENIED, "2", "The limit is 2 fps, from its own field."),
        ({}, DENIED, "2", "The next frame is due in 0.3 s."),
        ({"limit": "inf"}, DENIED, None, "The stream has no limit (from its own field)."),
        ({"limit": 0, "limit_source": "wildcard"}, DENIED, None, "The stream is paused (from the field *"),
        ({"limit": None}, None, None, "No sidecar knows the stream"),
        ({}, None, None, "No sidecar answers"),
        ({}, {"reason": "duplicate", "next_ts": None}, None, "The limit is 2 fps"),
        ({}, {"reason": "admitted", "next_ts": 0.0}, None, "A frame captured now would be admitted."),
        ({"invalid": "two"}, DENIED, "two", "The value 'two' in Redis isn't a valid fps"),
        ({"stale": True}, DENIED, None, "The limits can't be read from Redis"),
        ({"state": "silent", "heard_at": NOW - 42}, DENIED, None, "No frame has come for 42 s"),
        ({"state": "silent", "heard_at": 0.0}, DENIED, None, "No frame comes any more"),
        ({"state": "silent", "camera": "ended"}, DENIED, None, "Its film is over."),
        ({"state": "silent", "camera_error": "refused"}, DENIED, None, "can't read the camera: refused"),
        ({"state": "unseen"}, DENIED, None, "No frame of this name was ever seen"),
        ({"state": "behind"}, DENIED, None, "none was counted for a while"),
        ({"source_fps": 1.0}, DENIED, None, "The camera itself delivers 1 fps, less than its limit."),
        ({"skipped": 5, "last_skip": "superseded"}, DENIED, None, "the workers are full"),
        ({"limit_source": "default"}, DENIED, "5", "a field of its own that isn't in force yet"),
    ],
)
def test_sentences(row: dict[str, Any], decision: dict[str, Any] | None, field: str | None, sentence: str):
    assert any(sentence in each for each in explain({**ROW, **row}, decision, field, NOW))
