"""The rules in pyproject.toml that name modules, files and folders name only what exists.

A rule whose name matches nothing holds for ever, whatever the code does.
"""

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.files import files
from support.processes.programs import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
TOOL = PROJECT["tool"]
CONTRACTS = TOOL["importlinter"]["contracts"]


def names_of(contract: dict) -> Iterator[str]:
    """Yields the modules that a contract of import-linter names."""
    yield from contract.get("source_modules", [])
    yield from contract.get("forbidden_modules", [])
    yield from contract.get("modules", [])
    for container in contract.get("containers", [""]):
        for layer in contract.get("layers", []):
            yield from (f"{container}.{name.strip(' ()')}".strip(".") for name in re.split("[|:]", layer))


def exists(module: str) -> bool:
    """Returns whether a module can be imported, without importing it."""
    try:
        return module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_import_rules_name_modules_that_exist(contract: dict) -> None:
    """Import-linter ignores a forbidden module of another distribution that nothing imports, misspelt or not."""
    names = set(names_of(contract)) - {"torch"}  # an extra, which isn't always installed
    assert names
    assert {name for name in names if not exists(name)} == set()


@pytest.mark.parametrize(
    ("module", "expected"), [("sidecar.server", True), ("sidecar.gone", False), ("gone.too", False), ("asyncio", True)]
)
def test_a_module_that_does_not_exist_is_found(module: str, expected: bool) -> None:
    """The check above can fail."""
    assert exists(module) is expected


def test_folders_of_the_tools_exist() -> None:
    """The folders of the wheel, of pytest, mypy and ruff exist."""
    wheel = TOOL["hatch"]["build"]["targets"]["wheel"]
    pytest_options = TOOL["pytest"]["ini_options"]
    folders = [
        *wheel["packages"],
        *wheel["sources"],
        *TOOL["hatch"]["build"]["dev-mode-dirs"],
        *pytest_options["testpaths"],
        *pytest_options["pythonpath"],
        *TOOL["mypy"]["files"],
    ]
    assert [name for name in folders if not (REPOSITORY / name).is_dir()] == []


def test_exceptions_of_the_linter_match_files() -> None:
    """Each pattern of an exception to ruff's rules matches files."""
    ignores = [re.sub(r"\*\*$", "**/*", pattern) for pattern in TOOL["ruff"]["lint"]["per-file-ignores"]]
    assert files(*ignores, *(f"**/{name}" for name in TOOL["ruff"]["extend-exclude"]))


def test_a_pattern_without_a_file_is_an_error(tmp_path: Path) -> None:
    """The helper that other tests read files with raises for a pattern that matches nothing."""
    (tmp_path / "one.txt").touch()
    assert files("*.txt", folder=tmp_path) == [tmp_path / "one.txt"]
    with pytest.raises(AssertionError, match=r"\*\.yaml"):
        files("*.txt", "*.yaml", folder=tmp_path)
