"""Rows of streams, in order and filtered."""

import pytest

from console.control.changes import Snapshot
from console.control.states import State
from console.fpsctl.advice import advice, reason
from console.fpsctl.rows import Paced, Row, SortKey, filtered, number, ordered, row

NOW = 1000.0
HEARD = {
    "heard_at": "999.0",
    "source_fps": "25.5",
    "counted_fps": "2",
    "hand_count": "3",
    "counted": "7",
    "skipped": "93",
    "skipped:late": "3",
    "skipped:too_soon": "90",
}


def paced(**changes: object) -> Paced:
    """What a sidecar says about a stream that is all right."""
    said: dict = {
        "fps": 2.0, "source": "override", "admitted": 5, "denied": 95, "admitted_fps": 2.0, "source_fps": 0.0,
        "invalid": "", "last_reason": "TOO_SOON", "stale": False, "last_ts": 1.0, "next_ts": 2.0, "unread": False,
    }  # fmt: skip
    return Paced(**{**said, **changes})


def made(limits: dict | None = None, **sides: object) -> Row:
    """The row of a stream."""
    return row("cam", Snapshot(limits or {}), NOW, default=None, **sides)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "sides", "state"),
    [
        ({"cam": "2"}, {}, State.UNSEEN),
        ({"cam": "2"}, {"counted": HEARD}, State.LIVE),
        ({"cam": "0"}, {"counted": HEARD}, State.PAUSED),
        ({"cam": "2"}, {"counted": {**HEARD, "heard_at": "980"}}, State.SILENT),
        ({"cam": "2"}, {"counted": {**HEARD, "heard_at": "980"}, "paced": [paced(source_fps=25.0)]}, State.BEHIND),
        ({"cam": "2"}, {"counted": {**HEARD, "admitted": "8", "counted_at": "900"}}, State.BEHIND),
        ({"cam": "2"}, {"paced": [paced()]}, State.SILENT),
        ({"cam": "2"}, {"camera": {"state": "lost", "error": "refused"}}, State.LOST),
        ({"cam": "2"}, {"camera": {"state": "working", "source_fps": "25"}}, State.LIVE),
    ],
)
def test_states(limits: dict, sides: dict, state: State) -> None:
    """What a stream does, by what all sides say."""
    assert made(limits, **sides).state is state


def test_a_row() -> None:
    """Several sidecars are one stream; the camera's own rate is the one told."""
    found = made({"cam": "fast", "*": "3"}, paced=[paced(), paced(source_fps=30.0)], counted={**HEARD, "age": "x"})
    assert (found.limit, found.source, found.invalid) == (3.0, "wildcard", "fast")
    assert (found.admitted, found.denied, found.admitted_fps, found.source_fps) == (10, 190, 4.0, 30.0)
    assert list(found.skips.items()) == [("too_soon", 90), ("late", 3)]
    assert (found.counted, found.skipped, found.hands, found.age, found.last_skip) == (7, 93, 3, 1.0, "too_soon")


def test_the_rate_of_a_silent_stream_is_over() -> None:
    """Its hash stays for a minute, with the last rate."""
    assert made(counted=HEARD).counted_fps == 2.0
    assert made({"cam": "2"}, counted={**HEARD, "heard_at": "980"}).counted_fps == 0.0


def test_what_only_the_sidecar_knows() -> None:
    """Its default, and a value that it ignores."""
    found = made(paced=[paced(fps=1.5, invalid="x")])
    assert (found.limit, found.invalid, found.source) == (1.5, "x", "default")
    assert made(camera={"state": "lost", "error": "no"}).camera == "no"


def test_limits_that_only_the_sidecars_tell() -> None:
    """Where this user of Redis may not read them."""
    for source in ("override", "pattern", "wildcard", "boost", "default"):
        found = row("cam", None, NOW, default=None, paced=[paced(source=source)])
        assert (found.limit, found.source, found.pattern) == (2.0, source, None)
    assert row("cam", None, NOW, default=None, paced=[paced(source="future")]).limit == 2.0
    assert row("cam", None, NOW, default=None).limit is None


def test_order() -> None:
    """The largest first, unknown ones last, the most urgent state first."""
    rows = [
        row("b", Snapshot({"b": "1"}), NOW, default=None),
        row("a", Snapshot({"a": "0"}), NOW, default=None),
        row("c", Snapshot({"c": "5"}), NOW, default=None, counted=HEARD),
        row("d", Snapshot(), NOW, default=None, camera={"state": "lost"}),
    ]
    expected = {
        SortKey.NAME: "abcd",
        SortKey.LIMIT: "cbad",
        SortKey.STATE: "dabc",
        SortKey.COUNTED: "cabd",
        SortKey.HANDS: "cabd",
        SortKey.AGE: "cabd",
        SortKey.SOURCE: "cdab",
        SortKey.ADMITTED: "abcd",
    }
    assert {key: "".join(each.name for each in ordered(rows, key)) for key in SortKey} == expected
    assert "".join(each.name for each in ordered(rows, SortKey.LIMIT, reverse=True)) == "dabc"


@pytest.mark.parametrize(
    ("text", "names"), [("", ["Cam-1", "yard"]), ("cam1", ["Cam-1"]), ("unseen", ["Cam-1", "yard"]), ("x", [])]
)
def test_filter(text: str, names: list[str]) -> None:
    """By a part of the name, roughly, or by the state."""
    rows = [row(name, Snapshot({name: "1"}), NOW, default=None) for name in ("Cam-1", "yard")]
    assert [each.name for each in filtered(rows, text)] == names


@pytest.mark.parametrize(
    ("text", "expected"), [(None, 0), ("", 0), ("x", 0), ("nan", 0), ("-1", 0), ("inf", 0), ("2.5", 2.5)]
)
def test_numbers_of_hashes(text: str | None, expected: float) -> None:
    """What is none counts as 0."""
    assert number(text) == expected


@pytest.mark.parametrize(
    ("limits", "sides", "flags", "words"),
    [
        ({"cam": "fast"}, {"counted": HEARD}, {}, "fpsctl set cam FPS"),
        ({"cam": "2"}, {"counted": HEARD}, {"stale": True}, "can't read the limits"),
        ({"cam": "2"}, {"counted": HEARD}, {"unread": True}, "never read its limit"),
        ({"cam": "2"}, {"counted": HEARD}, {"applied": {"a:1": 1.0}}, "the sidecar a:1 applies 1 instead"),
        ({"cam": "2"}, {}, {"similar": "cam-1"}, "is cam-1 meant?"),
        ({"cam": "2"}, {}, {}, "is it published"),
        ({"cam": "2"}, {"paced": [paced()]}, {}, "come no more"),
        ({"cam": "2"}, {"camera": {"state": "lost", "error": "refused\x1b"}}, {}, "refused\\x1b"),
        ({"cam": "0"}, {}, {}, "fpsctl resume cam"),
        ({"cam": "2"}, {"paced": [paced()], "camera": {"state": "ended"}}, {}, "its film is over"),
        ({"cam": "2"}, {"paced": [paced()], "camera": {"state": "stopped"}}, {}, "its publisher was stopped"),
        ({"cam": "2"}, {"camera": {"state": "working", "source_fps": "9", "since": "1"}}, {}, "is a worker running"),
        ({"cam": "2"}, {"counted": {**HEARD, "last_skip": "superseded"}}, {}, "add workers"),
        ({"cam": "50"}, {"counted": HEARD}, {}, "above what the camera delivers"),
    ],
)
def test_advice(limits: dict, sides: dict, flags: dict, words: str) -> None:
    """Each thing that stands out has a sentence with what to do."""
    assert any(words in sentence for sentence in advice(made(limits, **sides), **flags))


def test_no_advice() -> None:
    """A stream that is all right needs none."""
    assert advice(made({"cam": "2"}, counted=HEARD), applied={"a:1": 2.0}) == []
    assert reason("TOO_SOON").startswith("the stream's next frame")
    assert reason("new\x1breason") == "new\\x1breason"
