"""Files of the repository that tests read. A pattern that matches nothing is an error: its test would check nothing."""

from pathlib import Path

from support.processes.programs import REPOSITORY


def files(*patterns: str, folder: Path = REPOSITORY) -> list[Path]:
    """Returns the files that match each of the patterns, in order.

    Raises:
        AssertionError: a pattern matches no file.
    """
    found = []
    for pattern in patterns:
        matches = sorted(path for path in folder.glob(pattern) if path.is_file() and "__pycache__" not in path.parts)
        assert matches, f"no file in {folder} matches {pattern}"
        found += matches
    return found
