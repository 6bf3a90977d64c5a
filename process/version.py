"""The version of the installed distribution."""

import functools
import importlib.metadata


@functools.cache  # reading it takes as long as reading all settings
def version() -> str:
    """Returns the version of hamer-hand-counter, or 0+unknown in a source tree that isn't installed."""
    try:
        return importlib.metadata.version("hamer-hand-counter")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
