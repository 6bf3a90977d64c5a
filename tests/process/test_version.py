"""The version of the installed distribution."""

import importlib.metadata

import pytest

from process.version import version


def test_a_source_tree_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an installed distribution the version is unknown; with one it is the distribution's."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1.2")
    assert version.__wrapped__() == "hamer-hand-counter 1.2"

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert version.__wrapped__() == "0+unknown"
