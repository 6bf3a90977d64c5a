"""The mutants of a Lua line, and the score of a run."""

import pytest
from mutation.lua_mutants import mutants
from mutation.report import Survivor, explained, report


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("if a < b then", ["if a <= b then", "if a >= b then"]),
        ("if a == 1 then", ["if a ~= 1 then", "if a == 2 then"]),
        ("return x and not y", ["return x or not y", "return x and  y"]),
        ("return LATE -- if a < b", ["return ADMITTED"]),
        ("  total = total + 1", ["total = total - 1", "total = total + 2", ""]),
        ("local total = a / 1e6", ["local total = a * 1e6", "local total = a / (2 * 1e6)"]),
        ("x = 'a < 1' .. b", [""]),
        ("state.earlier[1], at = f(at)", ["state.earlier[2], at = f(at)", ""]),
        ("table.remove(admitted, 1)", ["table.remove(admitted, 2)", ""]),
        ("for i, key in ipairs(KEYS) do", []),
        ("-- a < b", []),
    ],
)
def test_mutants_of_a_line(line: str, expected: list[str]) -> None:
    """Each token gives its errors, in order; strings and comments give none."""
    found = list(mutants(f"-- first\n{line}\n"))
    assert [mutant.mutated for mutant in found] == expected
    assert {mutant.line for mutant in found} <= {2}
    assert all(mutant.script.startswith("-- first\n") for mutant in found)


PAGE = """\
| file | line | with the error | why |
| --- | --- | --- | --- |
| `a.lua` | `x < y` | `x <= y` | they are never equal |
| `a.lua` | `x = 1` | left out | it is 1 already |
"""
EQUIVALENT = [Survivor("a.lua", "x < y", "x <= y"), Survivor("a.lua", "x = 1", "")]


def test_explanations_are_read_from_the_page() -> None:
    """Each row of the table is a survivor that is known."""
    assert explained(PAGE) == set(EQUIVALENT)


@pytest.mark.parametrize(
    ("survivors", "good", "says"),
    [
        (EQUIVALENT, True, "a.lua: 8 of 10 killed, 2 equivalent: score 100.0 %"),
        ([*EQUIVALENT, Survivor("a.lua", "y", "z")], False, "survived: a.lua: y  ->  z"),
        (EQUIVALENT[:1], False, "it doesn't survive: a.lua: x = 1  ->  left out"),
    ],
)
def test_the_score_counts_what_is_explained(survivors: list[Survivor], good: bool, says: str) -> None:
    """A run is good if the survivors are those that the page explains."""
    text, is_good = report({"a.lua": 10}, survivors, set(EQUIVALENT))
    assert is_good is good
    assert says in text
