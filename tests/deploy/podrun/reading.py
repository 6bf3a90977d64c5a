"""Shared by what reads manifests: the error, unknown fields, and quantities. Pure."""

import re
from collections.abc import Iterable, Mapping

UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class ManifestError(Exception):
    """The manifest can't be run; the text names the part and the reason."""


def known(where: str, given: Mapping[str, object], fields: Iterable[str]) -> None:
    """Raises ManifestError if there are fields besides these."""
    if unknown := given.keys() - set(fields):
        raise ManifestError(f"{where}: the runner doesn't know {', '.join(sorted(unknown))}")


def quantity(text: object) -> float:
    """Returns the number for a Kubernetes quantity such as 250m or 64Mi."""
    match = re.fullmatch(r"([0-9.]+)(m|k|M|G|Ki|Mi|Gi)?", str(text))
    if not match:
        raise ManifestError(f"not a quantity: {text!r}")
    return float(match[1]) * UNITS[match[2] or ""]
