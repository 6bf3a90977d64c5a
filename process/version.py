"""The version of the installed distribution."""

import importlib.metadata


def version() -> str:
    """The version of hamer-hand-counter; 0+unknown when run from a tree that was never installed."""
    try:
        return importlib.metadata.version("hamer-hand-counter")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
