"""Entries of the audit, and what others have changed."""

import pytest

from console.control.changes import AuditEntry, Change, Kind, Snapshot, differences, entry_of, is_ended_boost

LIMIT, PATTERN, BOOST = Kind


@pytest.mark.parametrize(
    ("entry_id", "fields", "expected"),
    [
        (
            "1500-0",
            {
                "kind": "boost",
                "name": "a",
                "old": "",
                "new": "9 20",
                "who": "u@h",
                "tool": "t",
                "until": "20",
                "batch": "b",
            },
            AuditEntry("1500-0", Change(BOOST, "a", "", "9 20"), "u@h", "t", 20.0, "b"),
        ),
        (
            "1500-0",
            {"kind": "limit", "name": "a", "until": "x"},
            AuditEntry("1500-0", Change(LIMIT, "a", "", ""), "", ""),
        ),
        ("1500-0", {"kind": "other"}, None),
        ("1500-0", {}, None),
        ("x", {"kind": "limit"}, None),
    ],
)
def test_entries(entry_id: str, fields: dict, expected: AuditEntry | None) -> None:
    """What isn't an entry is left out, and a part that can't be read is absent."""
    assert entry_of(entry_id, fields) == expected
    assert expected is None or expected.at == 1.5


def test_what_cannot_be_read_was_not_removed() -> None:
    """A key of another type hides its values; nobody has removed them."""
    seen = {(LIMIT, "gone"): "1", (PATTERN, "a*"): "2"}
    assert differences(seen, Snapshot(unread=frozenset({PATTERN}))) == [Change(LIMIT, "gone", "1", "")]


def test_differences() -> None:
    """What was added, changed and removed."""
    seen = {(LIMIT, "same"): "1", (LIMIT, "changed"): "1", (PATTERN, "gone*"): "2"}
    now = Snapshot({"same": "1", "changed": "2", "new": "3"}, {}, {"same": "9 20"})
    assert differences(seen, now) == [
        Change(LIMIT, "changed", "1", "2"),
        Change(LIMIT, "new", "", "3"),
        Change(PATTERN, "gone*", "2", ""),
        Change(BOOST, "same", "", "9 20"),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change(BOOST, "a", "9 1000", ""), True),
        (Change(BOOST, "a", "9 1001", ""), False),
        (Change(BOOST, "a", "9 999", "9 2000"), False),
        (Change(BOOST, "a", "9", ""), False),
        (Change(LIMIT, "a", "9 999", ""), False),
    ],
)
def test_ended_boosts(change: Change, expected: bool) -> None:
    """Whoever removes a boost after its end changes no limit."""
    assert is_ended_boost(change, 1000.0) is expected
