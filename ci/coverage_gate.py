"""Fails where the tests cover less than pyproject.toml demands: ``python ci/coverage_gate.py COVERAGE.json``.

Each rule under [[tool.coverage-gate.rules]] has a floor, per cent of lines and branches together, and patterns of files. A
file counts for the first rule that matches it; a rule's files are judged together, or one by one with ``each``. A pattern
without a file and a file without a rule are failures too: a rule that matches nothing would hold for ever.
"""

import fnmatch
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A demand on some files."""

    floor: float
    """Per cent of the lines and branches."""
    patterns: tuple[str, ...]
    each: bool = False
    """Whether each file must reach the floor, or all of them together."""


class Covered(NamedTuple):
    """How much of a file, or of several, the tests run."""

    covered: int
    total: int

    @property
    def percent(self) -> float:
        """Per cent of the lines and branches; all of nothing."""
        return 100.0 * self.covered / self.total if self.total else 100.0


def covered_files(report: Mapping[str, Any]) -> dict[str, Covered]:
    """Returns the files of a JSON report of coverage.py, which must have measured branches."""
    if not report["meta"]["branch_coverage"]:
        raise ValueError("the report has no branches: run coverage with --branch")
    found = {}
    for name, file in report["files"].items():
        summary = file["summary"]
        covered = summary["covered_lines"] + summary["covered_branches"]
        found[name] = Covered(covered, summary["num_statements"] + summary["num_branches"])
    return found


def faults(files: Mapping[str, Covered], rules: Iterable[Rule]) -> list[str]:
    """Returns what is below its floor, and which patterns and files have no counterpart."""
    found = []
    left = dict(files)
    for rule in rules:
        matched = {}
        for pattern in rule.patterns:
            names = [name for name in files if fnmatch.fnmatchcase(name, pattern)]
            if not names:
                found.append(f"no measured file matches {pattern}")
            matched |= {name: left.pop(name) for name in names if name in left}
        if rule.each:
            groups = {name: [covered] for name, covered in matched.items()}
        else:
            groups = {", ".join(rule.patterns): list(matched.values())}
        for name, parts in groups.items():
            all_parts = Covered(sum(part.covered for part in parts), sum(part.total for part in parts))
            if all_parts.percent < rule.floor:
                missing = all_parts.total - all_parts.covered
                found.append(f"{name}: {all_parts.percent:.1f} % covered, {rule.floor:g} % demanded, {missing} missing")
    return found + [f"no rule for {name}" for name in left]


def main(report: Path, project: Path) -> int:
    """Prints the faults; returns the exit code."""
    settings = tomllib.loads(project.read_text())["tool"]["coverage-gate"]
    rules = [Rule(rule["floor"], tuple(rule["files"]), rule.get("each", False)) for rule in settings["rules"]]
    files = covered_files(json.loads(report.read_text()))
    found = faults(files, rules)
    for fault in found:
        sys.stderr.write(f"coverage: {fault}\n")
    total = Covered(sum(file.covered for file in files.values()), sum(file.total for file in files.values()))
    sys.stdout.write(f"{total.percent:.1f} % of the lines and branches of {len(files)} files are covered\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(__file__).resolve().parents[1] / "pyproject.toml"))
