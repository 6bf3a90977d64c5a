"""What may be wrong with the limits."""

import pytest

from console.control.changes import Kind, Snapshot
from console.control.lint import Code, demand, lint
from handcounter.pacing.limits import MAX_PATTERNS

NOW = 1000.0


def found(snapshot: Snapshot, **options: object) -> list[tuple[Code, str, str]]:
    """Codes, names and messages."""
    return [(each.code, each.name, each.message) for each in lint(snapshot, NOW, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("snapshot", "streams", "code", "name", "words"),
    [
        (Snapshot({"cam": "fast"}), None, Code.BAD_VALUE, "cam", "fast isn't a valid fps"),
        (Snapshot({"cam": "2,5"}), None, Code.BAD_VALUE, "cam", "2.5 would be"),
        (Snapshot({"cam ": "2"}), None, Code.BAD_NAME, "cam ", "blanks"),
        (Snapshot({}, {"a*": "x"}), None, Code.BAD_VALUE, "a*", "fpsctl set --pattern 'a*' FPS mends it"),
        (Snapshot({}, {"a": "1"}), None, Code.BAD_PATTERN, "a", "no *"),
        (Snapshot({}, {}, {"a": "1"}), None, Code.BAD_BOOST, "a", "FPS UNTIL"),
        (Snapshot({}, {}, {"a": "1 999"}), None, Code.ENDED_BOOST, "a", "ended"),
        (Snapshot({"a*": "1"}), None, Code.PATTERN_IN_LIMITS, "a*", "--pattern"),
        (Snapshot({"cam_1": "1"}), ["cam-1"], Code.UNUSED, "cam_1", "is cam-1 meant?"),
        (Snapshot({"yard": "1"}), ["cam-1"], Code.UNUSED, "yard", "no stream has this name at present"),
        (Snapshot({}, {"floor*": "1"}), ["cam-1"], Code.UNUSED, "floor*", "no stream matches"),
        (Snapshot({"Cam": "1"}), ["cam"], Code.ALIKE, "Cam", "looks like cam"),
        (Snapshot(unread=frozenset({Kind.PATTERN})), None, Code.WRONG_TYPE, "", "the patterns can't be read"),
    ],
)
def test_each_finding(snapshot: Snapshot, streams: list | None, code: Code, name: str, words: str) -> None:
    """It has a code, a name, and words that say what to do."""
    assert any(each[:2] == (code, name) and words in each[2] for each in found(snapshot, streams=streams))


def test_nothing_to_find() -> None:
    """Limits that are all right."""
    fine = Snapshot({"cam": "1", "*": "2", "x*y": "1"}, {"c*": "3"}, {"cam": "9 2000"})
    assert found(fine, streams=["cam", "x*y"], capacity=100.0) == []
    assert lint(Snapshot({"cam": "1"}), NOW) == []


def test_errors_come_first() -> None:
    """Then by kind and name."""
    both = Snapshot({"b": "1", "z": "bad"})
    assert [each[0] for each in found(both, streams=[])] == [Code.BAD_VALUE, Code.UNUSED, Code.UNUSED]


def test_too_many_patterns() -> None:
    """Those beyond the bound have no effect."""
    many = Snapshot({}, {f"{number}*": "1" for number in range(MAX_PATTERNS + 1)})
    assert [each.kind for each in lint(many, NOW) if each.code is Code.TOO_MANY] == [Kind.PATTERN]


@pytest.mark.parametrize(
    ("limits", "sources", "default", "expected"),
    [
        ({"a": "2", "b": "3"}, {}, None, 5.0),
        ({"a": "2", "b": "inf"}, {}, None, 2.0),
        ({"a": "2", "b": "inf"}, {"b": 25.0}, None, 27.0),
        ({"a": "30"}, {"a": 25.0}, 1.0, 26.0),
    ],
)
def test_demand(limits: dict, sources: dict, default: float | None, expected: float) -> None:
    """A stream asks for its limit, and for no more than its source delivers."""
    assert demand(Snapshot(limits), NOW, ["a", "b"], sources, default) == expected


def test_capacity() -> None:
    """Limits that ask for more than the workers count are a warning."""
    asks = Snapshot({"a": "200"})
    assert [each[0] for each in found(asks, streams=["a"], capacity=150.0, planned=True)] == [Code.CAPACITY]
    assert found(asks, streams=["a"], capacity=200.0, planned=True) == []
    assert found(asks, streams=["a"], capacity=150.0) == []
    assert [each[0] for each in found(asks, streams=["a"], sources={"a": 250.0}, capacity=150.0)] == [Code.CAPACITY]
    assert found(asks, streams=["a"]) == []
