"""What reverts earlier changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.control.changes import OTHER_TOOL, AuditEntry, Change, Kind, Snapshot
from console.control.plan import reset, set_limits
from console.control.undo import former_values, last_entries, undo

LIMIT = Kind.LIMIT


def entry(number: int, name: str, old: str, new: str, who: str = "ann", batch: str = "", tool: str = "fpsctl"):
    """An entry of the audit."""
    return AuditEntry(f"{number}-0", Change(LIMIT, name, old, new), who, tool, None, batch or str(number))


AUDIT = [
    entry(5, "cam3", "", "9", who="", tool=OTHER_TOOL),
    entry(4, "cam2", "1", "2", who="bob"),
    entry(3, "cam2", "", "1", batch="two"),
    entry(2, "cam1", "", "1", batch="two"),
    entry(1, "cam1", "7", ""),
]


@pytest.mark.parametrize(
    ("name", "who", "numbers"),
    [
        ("", "", [5]),
        ("", "bob", [4]),
        ("", "ann", [2, 3]),
        ("cam1", "", [2]),
        ("cam3", "ann", []),
        ("", "carl", []),
    ],
)
def test_the_last_change(name: str, who: str, numbers: list[int]) -> None:
    """All that was made together, or of one stream; by one person, or anybody."""
    assert [int(each.at * 1000) for each in last_entries(AUDIT, name, who)] == numbers


@pytest.mark.parametrize(
    ("limits", "changes", "refusals"),
    [
        ({"cam1": "1", "cam2": "1"}, [Change(LIMIT, "cam2", "1", ""), Change(LIMIT, "cam1", "1", "")], 0),
        ({"cam1": "1", "cam2": "2"}, [], 1),
        ({}, [], 2),
    ],
)
def test_undo(limits: dict, changes: list[Change], refusals: int) -> None:
    """Everything that was changed together is reverted, unless anybody has changed a part since."""
    plan = undo(last_entries(AUDIT, who="ann"), Snapshot(limits))
    assert (list(plan.changes), len(plan.refusals)) == (changes, refusals)


def test_a_boost_that_was_changed_again_is_in_words() -> None:
    """As people read it, with its end."""
    made = AuditEntry("1-0", Change(Kind.BOOST, "cam1", "", "9 1700000000.000"), "ann", "fpsctl")
    plan = undo((made,), Snapshot(boosts={"cam1": "2.50 1700003600.000"}))
    assert plan.refusals == (
        "boost cam1 was changed again: it is 2.5 until 2023-11-14 23:13:20Z now, not 9 until 2023-11-14 22:13:20Z",
    )


def test_nothing_to_undo() -> None:
    """The plan says so."""
    assert undo((), Snapshot()).refusals


def test_the_removal_of_an_ended_boost_is_no_change() -> None:
    """It is made along with any change of boosts; an undo of that needn't bring it back."""
    ended = AuditEntry("9000-0", Change(Kind.BOOST, "cam9", "9 8.5", ""), "ann", "fpsctl", None, "two")
    last = AuditEntry("9000-1", Change(Kind.BOOST, "cam1", "", "9 99.0"), "ann", "fpsctl", 99.0, "two")
    assert last_entries([last, ended, *AUDIT]) == (last,)
    assert last_entries([ended], "cam9") == ()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {}),
        ([entry(1, "cam", "5", "0")], {"cam": "5"}),
        ([entry(1, "cam", "", "0")], {"cam": ""}),
        ([entry(2, "cam", "0", "0.0"), entry(1, "cam", "5", "0")], {"cam": "5"}),
        ([entry(3, "cam", "4", "0"), entry(2, "cam", "0", "4"), entry(1, "cam", "5", "0")], {"cam": "4"}),
        ([entry(1, "other", "5", "0")], {}),
        ([entry(3, "cam", "5", "7"), entry(2, "cam", "0", "5"), entry(1, "cam", "5", "0")], {}),
    ],
)
def test_former_values(entries: list[AuditEntry], expected: dict) -> None:
    """The value before the pause, if the audit tells of it."""
    assert former_values(["cam"], entries) == expected


def applied(snapshot: Snapshot, changes: tuple[Change, ...]) -> Snapshot:
    """The limits after some changes."""
    values = {kind: dict(snapshot.of(kind)) for kind in Kind}
    for change in changes:
        assert values[change.kind].get(change.name, "") == change.old
        values[change.kind].pop(change.name, None)
        if change.new:
            values[change.kind][change.name] = change.new
    return Snapshot(*(values[kind] for kind in Kind))


NAMES = st.sampled_from(["a", "b", "c", "*"])
VALUES = st.sampled_from(["0", "1", "bad", "inf"])


@given(st.dictionaries(NAMES, VALUES), st.sets(NAMES), st.booleans())
def test_undo_restores_what_was_there(limits: dict, names: set, removes: bool) -> None:
    """A change and its undo leave all limits as they were."""
    before = Snapshot(limits, {}, dict.fromkeys(limits, "9 5000"))
    plan = reset(names, before) if removes else set_limits(names, 2.0, before, 1000.0, end_boost=True)
    entries = tuple(AuditEntry(f"{number}-0", change, "ann", "t") for number, change in enumerate(plan.changes))
    after = applied(before, plan.changes)
    if entries:
        assert applied(after, undo(entries, after).changes) == before
