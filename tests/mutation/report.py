"""The score of a mutation run, and which survivors docs/mutation.md explains."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

ROW = re.compile(r"^\| `(?P<file>[^`]+)` \| `(?P<original>[^`]+)` \| (?:`(?P<mutated>[^`]+)`|left out) \| .+ \|$", re.M)


class Survivor(NamedTuple):
    """A mutant that no test noticed."""

    file: str
    """Its path in the repository."""
    original: str
    """The line as it is, without its indentation."""
    mutated: str
    """The line with the error; empty if it is left out."""

    def __str__(self) -> str:
        return f"{self.file}: {self.original}  ->  {self.mutated or 'left out'}"


def explained(page: str) -> set[Survivor]:
    """Returns the survivors that have a row in the page's table."""
    return {Survivor(row["file"], row["original"], row["mutated"] or "") for row in ROW.finditer(page)}


def report(counts: Mapping[str, int], survivors: Iterable[Survivor], equivalent: set[Survivor]) -> tuple[str, bool]:
    """Returns the score as text, and whether every survivor is explained and every explanation is of a survivor.

    Args:
        counts: how many mutants there were, by file.
        survivors: those that no test noticed.
        equivalent: those that docs/mutation.md explains.
    """
    survivors = list(survivors)
    lines = []
    for file, count in counts.items():
        alive = [survivor for survivor in survivors if survivor.file == file]
        known = sum(survivor in equivalent for survivor in alive)
        effective = count - known
        killed = count - len(alive)
        score = 100.0 * killed / effective if effective else 100.0
        lines.append(f"{file}: {killed} of {count} killed, {known} equivalent: score {score:.1f} %")
    new = [survivor for survivor in survivors if survivor not in equivalent]
    gone = [survivor for survivor in equivalent if survivor.file in counts and survivor not in survivors]
    lines += [f"survived: {survivor}" for survivor in new]
    lines += [f"explained in docs/mutation.md, but it doesn't survive: {survivor}" for survivor in gone]
    return "\n".join(lines), not new and not gone
