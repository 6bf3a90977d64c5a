"""The gate for coverage."""

import pytest
from support.scripts import script

gate = script("ci/coverage_gate.py")
FILES = {"a/pure.py": gate.Covered(10, 10), "b/one.py": gate.Covered(9, 10), "b/two.py": gate.Covered(19, 20)}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([(100, ["a/*.py"]), (90, ["b/*.py"])], []),
        ([(100, ["a/pure.py"], True), (93, ["b/*.py"])], []),
        ([(100, ["a/*.py"]), (93, ["b/*.py"], True)], ["b/one.py: 90.0 % covered, 93 % demanded, 1 missing"]),
        ([(100, ["*.py"])], ["*.py: 95.0 % covered, 100 % demanded, 2 missing"]),
        ([(90, ["a/*.py", "b/*.py", "c/*.py"])], ["no measured file matches c/*.py"]),
        ([(100, ["a/*.py"]), (90, ["b/one.py"])], ["no rule for b/two.py"]),
        ([(90, ["b/one.py"]), (95, ["b/*.py"]), (100, ["a/*.py"])], []),
    ],
)
def test_faults(rules: list[tuple], expected: list[str]) -> None:
    """A floor that isn't reached, a pattern without a file and a file without a rule are faults."""
    assert gate.faults(FILES, [gate.Rule(floor, tuple(names), *each) for floor, names, *each in rules]) == expected


def test_lines_and_branches_count_alike() -> None:
    """The report's lines and branches are added; one without branches is refused."""
    summary = {"covered_lines": 3, "num_statements": 4, "covered_branches": 1, "num_branches": 2}
    report = {"meta": {"branch_coverage": True}, "files": {"a.py": {"summary": summary}}}
    assert gate.covered_files(report) == {"a.py": gate.Covered(4, 6)}
    report["meta"]["branch_coverage"] = False
    with pytest.raises(ValueError, match="no branches"):
        gate.covered_files(report)
