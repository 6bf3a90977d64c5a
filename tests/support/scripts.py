"""Scripts of the repository that aren't part of a package."""

import importlib.util
from types import ModuleType

from support.processes.programs import REPOSITORY


def script(path: str) -> ModuleType:
    """Returns a script as a module, given its path below the repository's root."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
