"""What can be checked of the Dockerfiles without building them."""

import tomllib

import pytest
from support.files import files
from support.processes.programs import REPOSITORY

DOCKERFILES = files("Dockerfile.*")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_install_is_pinned_by_hash(path):
    """Pip checks every download by hash, except our own wheel and torch (see the comment there)."""
    commands = path.read_text().replace("\\\n", " ").splitlines()
    installs = [part for line in commands if line.startswith("RUN") for part in line.split("&&") if " install " in part]
    assert len(installs) >= 3
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install or "torch==" in install


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_base_can_be_pinned_by_digest(path):
    """Every stage is based on BASE or on a stage of the same file."""
    froms = [line.split() for line in path.read_text().splitlines() if line.startswith("FROM")]
    stages = {words[3] for words in froms if len(words) == 4}
    assert {words[1] for words in froms} - stages <= {"${BASE}", "torch-${TORCH}"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_base_is_named_in_full_and_in_the_label(path):
    """The base's name includes its registry, and the image's label names the base that was used."""
    text = path.read_text()
    assert "\nARG BASE=docker.io/library/python:" in text
    assert 'org.opencontainers.image.base.name="${BASE}"' in text
    last_stage = text[text.rindex("\nFROM ") :]
    assert any(line.startswith("ARG ") and "BASE" in line.split() for line in last_stage.splitlines())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_classic_engines_can_build_it(path):
    """The Dockerfiles need no external frontend and no feature of newer ones."""
    text = path.read_text()
    assert "syntax=" not in text
    assert "--link" not in text


def test_the_builder_gets_all_packages_and_nothing_else():
    """.dockerignore admits exactly the sources of the wheel, so a new package has to be added there."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = {package.partition("/")[0] for package in packages["packages"]}
    assert allowed == folders | {"pyproject.toml", "README.md", "LICENSE", "requirements/*.txt"}
    assert lines.index("*") < min(lines.index(f"!{name}") for name in allowed)
