import pytest

from console.control.changes import Change, Kind, Snapshot
from console.web.demands import Demands, changed, default_of

SOURCES = {"a": 25.0, "b": 25.0}
SNAPSHOT = Snapshot({"a": "2", "*": "1"})


def _to(value: str, name: str = "a", kind: Kind = Kind.LIMIT) -> list[Change]:
    return [Change(kind, name, SNAPSHOT.value(kind, name), value)]


@pytest.mark.parametrize(
    ("peak", "most", "changes", "said"),
    [
        (3.0, None, _to("5"), ""),
        (3.0, None, _to("5.5"), "may not keep up"),
        (3.0, 3.0, _to("3"), "when they are full"),
        (3.0, 30.0, _to("inf"), ""),
        (3.0, 3.0, _to("1"), ""),
        (3.0, 3.0, _to("0"), ""),
        (3.0, 3.0, _to("20", "*"), "when they are full"),
        (3.0, 3.0, _to("9", "b*", Kind.PATTERN), "when they are full"),
        (3.0, 3.0, _to("9 1800000000", "b", Kind.BOOST), "when they are full"),
        (3.0, 3.0, _to("9", "nobody"), ""),
        (0.0, None, _to("inf"), ""),
    ],
)
def test_when_a_change_is_warned_of(peak: float, most: float | None, changes: list[Change], said: str):
    warning = Demands(SOURCES, peak, most, now=1_700_000_000.0).warning(SNAPSHOT, changes)
    assert said in warning
    assert bool(said) is bool(warning)


def test_the_limits_after_changes():
    changes = [*_to(""), *_to("4", "c"), *_to("1", "x-*", Kind.PATTERN)]
    assert changed(SNAPSHOT, changes) == Snapshot({"*": "1", "c": "4"}, {"x-*": "1"})


def test_the_default_is_that_of_the_first_sidecar_that_tells_it():
    assert default_of([{"default_fps": ""}, {}, {"default_fps": "inf"}]) == float("inf")
    assert default_of([{"default_fps": "nan"}]) is None
