"""The volumes of a pod as its manifest describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from podrun.reading import ManifestError, known, quantity

FILES_MODE = 0o644
"""What Kubernetes gives a file where the manifest doesn't say."""

Config: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]
"""The ConfigMaps and Secrets, by kind and name."""

_KINDS = {"configMap": "ConfigMap", "secret": "Secret"}


@dataclass(frozen=True)
class EmptyDir:
    """A folder that begins empty."""

    limit: int | None
    """Bytes."""


@dataclass(frozen=True)
class FileSource:
    """A ConfigMap or a Secret whose keys are files."""

    kind: str
    name: str
    paths: Mapping[str, str] | None
    """The file for each key; None: each key is a file of its name."""
    optional: bool


@dataclass(frozen=True)
class FileVolume:
    """Files from ConfigMaps and Secrets, which follow them."""

    sources: tuple[FileSource, ...]
    mode: int

    def content(self, where: str, config: Config) -> dict[str, str]:
        """Returns the files' texts by path. Raises ManifestError for what a kubelet would wait for in vain."""
        found: dict[str, str] = {}
        for source in self.sources:
            data = config.get((source.kind, source.name))
            if data is None:
                if source.optional:
                    continue
                raise ManifestError(f"{where}: there is no {source.kind} {source.name}")
            for key, path in (source.paths or {key: key for key in data}).items():
                if key in data:
                    found[path] = data[key]
                elif not source.optional:
                    raise ManifestError(f"{where}: {source.name} has no key {key}")
        return found


Volume: TypeAlias = EmptyDir | FileVolume


def parse_volume(where: str, raw: Mapping[str, Any]) -> Volume:
    """Returns a volume of a pod template. Raises ManifestError for one of another kind, or a field that isn't known."""
    known(where, raw, {"name", "emptyDir", "configMap", "secret", "projected"})
    if "emptyDir" in raw:
        about = raw["emptyDir"] or {}
        known(where, about, {"sizeLimit", "medium"})
        return EmptyDir(int(quantity(about["sizeLimit"])) if "sizeLimit" in about else None)
    if "projected" in raw:
        known(where, raw["projected"], {"defaultMode", "sources"})
        sources = [_source(where, kind, each[kind]) for each in raw["projected"]["sources"] for kind in each]
        return FileVolume(tuple(sources), raw["projected"].get("defaultMode", FILES_MODE))
    for kind in ("configMap", "secret"):
        if kind in raw:
            about = dict(raw[kind])
            mode = about.pop("defaultMode", FILES_MODE)
            if kind == "secret":
                about["name"] = about.pop("secretName")
            return FileVolume((_source(where, kind, about),), mode)
    raise ManifestError(f"{where}: no kind of volume")


def _source(where: str, kind: str, raw: Mapping[str, Any]) -> FileSource:
    if kind not in _KINDS:
        raise ManifestError(f"{where}: the runner doesn't know {kind}")
    known(where, raw, {"name", "items", "optional"})
    for item in raw.get("items", ()):
        known(where, item, {"key", "path"})
    paths = {item["key"]: item["path"] for item in raw["items"]} if "items" in raw else None
    return FileSource(_KINDS[kind], raw["name"], paths, raw.get("optional", False))
