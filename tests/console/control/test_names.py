"""Names that look alike, near ones, and hostile ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.control.names import look, nearest, quoted, rough_look, shown, twins


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cam1", "cam1"),
        ("Büro 1", "Büro 1"),
        ("[bold]x[/]", "[bold]x[/]"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\rb\n", "a\\x0db\\x0a"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u200bb", "a\\u200bb"),
        ("a\udcffb", "a\\xffb"),
        ("\U000e0041", "\\U000e0041"),
        ("x" * 300, "x" * 255 + "…"),
    ],
)
def test_shown(text: str, expected: str) -> None:
    """What moves the cursor, turns the writing or isn't seen is escaped."""
    assert shown(text) == expected


@given(st.text())
def test_what_is_shown_is_printable(text: str) -> None:
    """Every text becomes one that no terminal interprets, of a bounded length."""
    assert len(shown(text)) <= 256
    assert all(character.isprintable() or character == "\u3000" or character.isspace() for character in shown(text))
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown(text))


@pytest.mark.parametrize(
    ("text", "expected"), [("cam-1*", "cam-1*"), ("a b", "'a b'"), ("", "''"), ("a\n", "'a\\x0a'")]
)
def test_quoted(text: str, expected: str) -> None:
    """Quotes show where a name ends."""
    assert quoted(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "alike", "roughly"),
    [
        ("cam1", "Cam 1", True, True),
        ("cam1", "cam-1", False, True),
        ("cam1", "cam01", False, True),
        ("cam10", "cam1o", False, True),
        ("cam10", "cam100", False, False),
        ("cam1", "cam2", False, False),
        ("é", "e\u0301", True, True),
    ],
)
def test_looks(one: str, other: str, alike: bool, roughly: bool) -> None:
    """Names look alike, or alike at a glance."""
    assert (look(one) == look(other), rough_look(one) == rough_look(other)) == (alike, roughly)


def test_twins() -> None:
    """Groups of names that look alike."""
    assert twins(["b", "cam1", "CAM1", "cam 1"]) == [("CAM1", "cam 1", "cam1")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cam_01", ["cam-1"]),
        ("entrence", ["entrance"]),
        ("xyz", []),
        ("cam-1", []),
    ],
)
def test_nearest(name: str, expected: list[str]) -> None:
    """First what looks the same, then what is spelt similarly."""
    assert nearest(name, ["cam-1", "entrance", "yard"]) == expected
