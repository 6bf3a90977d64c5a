"""Limits as YAML and CSV."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.control.changes import Change, Kind, Snapshot
from console.control.documents import DocumentError, difference, from_csv, from_yaml, to_csv, to_yaml
from console.control.rule import format_fps

YAML = """\
limits:
  cam1: 0.25
  no: .inf
  1:30: 2
  "*": 1.0
patterns:
  floor1-*: 3
"""
CSV = "kind,name,fps\nlimit,cam1,0.25\nlimit,no,inf\nlimit,1:30,2\nlimit,*,1.0\npattern,floor1-*,3\n"
EXPECTED = Snapshot({"cam1": "0.25", "no": "inf", "1:30": "2", "*": "1"}, {"floor1-*": "3"})


def test_documents_are_read() -> None:
    """Every name is text, whatever YAML would make of it."""
    assert from_yaml(YAML) == EXPECTED
    assert from_csv(CSV) == EXPECTED
    assert from_csv("\ufeff" + CSV.replace("\n", "\r\n")) == EXPECTED
    assert from_yaml("") == from_yaml("limits:\npatterns: {}\n") == Snapshot()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits: {cam: fast}", "line 1: fast isn't a valid fps"),
        ("limits:\n  cam: 1\n  cam: 2", "line 3: cam stands in the document twice"),
        ("limits: {'cam ': 1}", "line 1: stream_name must not begin or end with blanks"),
        ("patterns: {cam: 1}", "line 1: cam has no *"),
        ("limits: {cam: [1]}", "line 1: expected NAME: FPS"),
        ("limits: [cam]", "line 1: expected a mapping"),
        ("limit: {cam: 1}", "line 1: expected limits or patterns"),
        ("[cam]: 1", "line 1: expected limits or patterns"),
        ("- cam", "expected the mappings"),
        ("limits: {", "not YAML"),
        ("[" * 1000, "too deeply nested"),
        ("limits: {" + ", ".join(f"cam{n}: x" for n in range(25)) + "}", "and 5 more"),
    ],
)
def test_mistakes_in_yaml(text: str, words: str) -> None:
    """Each is named with its line."""
    with pytest.raises(DocumentError) as caught:
        from_yaml(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,fps\n", "line 1: expected kind,name,fps"),
        ("kind,name,fps\nlimit,cam\n", "line 2: expected limit,NAME,FPS"),
        ("kind,name,fps\nboost,cam,1\n", "line 2: expected limit,NAME,FPS"),
        ("kind,name,fps\n\nlimit,cam,x\n", "line 3: x isn't a valid fps"),
        ("kind,name,fps\nlimit,a\rb,2\n", "line 2: expected limit,NAME,FPS"),
        (f"kind,name,fps\nlimit,{'x' * 200_000},1\n", "line 2: not CSV"),
    ],
)
def test_mistakes_in_csv(text: str, words: str) -> None:
    """Each is named with its line."""
    with pytest.raises(DocumentError) as caught:
        from_csv(text)
    assert words in str(caught.value)


def test_bad_values_are_exported_as_they_are() -> None:
    """So that nothing is hidden; an import names them."""
    bad = Snapshot({"cam": 'a "b"\n\x1b\udcff\U0001f600'})
    assert to_yaml(bad) == 'limits:\n  "cam": "a \\"b\\"\\n\\x1b\\udcff\U0001f600"\npatterns: {}\n'.replace(
        "\\n\\x1b", "\\x0a\\x1b"
    ).replace('\\"', "\\x22")
    with pytest.raises(DocumentError):
        from_yaml(to_yaml(bad))


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufeff"), min_size=1, max_size=9
)
SIGNS = st.text(st.sampled_from("'=+-@a"), min_size=1, max_size=4)
FPS = st.floats(0.0, 1e6).map(format_fps) | st.just("inf")
SNAPSHOTS = st.builds(
    Snapshot,
    st.dictionaries(SIGNS | NAMES.filter(lambda name: name == name.strip()), FPS),
    st.dictionaries(NAMES.map(lambda name: f"x{name}*"), FPS),
)


@settings(max_examples=40)
@given(SNAPSHOTS)
def test_a_document_means_what_was_exported(snapshot: Snapshot) -> None:
    """Whatever characters names have."""
    assert from_yaml(to_yaml(snapshot)) == snapshot
    assert from_csv(to_csv(snapshot)) == snapshot


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("cam", "cam"),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-cam", "'-cam"),
        ("@cam", "'@cam"),
        ("\uff1dcam", "'\uff1dcam"),
        ("'=cam", "''=cam"),
        ("'cam", "'cam"),
        ("cam=1", "cam=1"),
    ],
)
def test_no_cell_is_a_formula(name: str, cell: str) -> None:
    """What a spreadsheet would compute begins with an apostrophe, and is read as what it was; so is a name without one."""
    assert to_csv(Snapshot({name: "2"})).splitlines()[1] == f"limit,{cell},2"
    written = (cell,) if name.startswith("'") else (cell, name)
    assert all(from_csv(f"kind,name,fps\nlimit,{each},2\n") == Snapshot({name: "2"}) for each in written)


@pytest.mark.parametrize(
    ("limits", "document", "replace", "changes"),
    [
        ({"a": "1"}, {"a": "1.0"}, False, []),
        ({"a": "1"}, {"a": "2"}, False, [Change(Kind.LIMIT, "a", "1", "2")]),
        ({"a": "1"}, {"b": "2"}, False, [Change(Kind.LIMIT, "b", "", "2")]),
        ({"a": "1"}, {"b": "2"}, True, [Change(Kind.LIMIT, "a", "1", ""), Change(Kind.LIMIT, "b", "", "2")]),
        ({"a": "bad"}, {"a": "2"}, False, [Change(Kind.LIMIT, "a", "bad", "2")]),
    ],
)
def test_difference(limits: dict, document: dict, replace: bool, changes: list) -> None:
    """Values that mean the same differ in nothing."""
    assert list(difference(Snapshot(limits), Snapshot(document), replace=replace)) == changes
