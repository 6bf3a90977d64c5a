"""Which fields of the hash set a limit."""

import pytest

from sidecar.check import field_error


@pytest.mark.parametrize(
    ("field", "value"), [(b"cam1", b"0.25"), (b"*", b"inf"), ("café".encode(), b" 0 "), (b"a" * 256, b"1")]
)
def test_a_limit_is_fine(field: bytes, value: bytes) -> None:
    """A stream's name and a valid fps."""
    assert field_error(field, value) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (b"cam1", b"fast", ["cam1", "'fast'"]),
        (b"cam1", b"", ["cam1", "''"]),
        (b"*", b"-1", ["*", "'-1'"]),
        (b"cam\n1", b"nan", ["cam\\n1"]),
        (b"cam1", b"\xff", ["xff"]),
        (b"", b"1", ["stream_name"]),
        (b"a" * 257, b"1", ["aaa", "256"]),
        (b"\xff", b"1", ["xff", "UTF-8"]),
    ],
)
def test_a_field_without_effect_is_told_with_its_value(field: bytes, value: bytes, words: list[str]) -> None:
    """What is no valid fps, or a name that no stream can have, is one line that shows it."""
    error = field_error(field, value)
    assert error is not None
    assert "\n" not in error
    assert [word for word in words if word not in error] == []
