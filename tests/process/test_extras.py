"""What a program says when its extra isn't installed."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.programs import REPOSITORY

from process.extras import required_extra

MISSING = """\
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from {module} import main
sys.exit(main({arguments!r}))
"""


@pytest.mark.parametrize(
    ("module", "packages", "arguments", "line"),
    [
        (
            "sidecar.__main__",
            ["pydantic", "pydantic_settings"],
            [],
            "fps-sidecar: pydantic isn't installed, run: pip install 'hamer-hand-counter[sidecar]'\n",
        ),
        (
            "sidecar.__main__",
            ["grpc_health"],
            [],
            "fps-sidecar: grpc_health isn't installed, run: pip install 'hamer-hand-counter[sidecar]'\n",
        ),
        (
            "worker.__main__",
            ["pydantic", "pydantic_settings"],
            ["--help"],
            "hand-counter: pydantic isn't installed, run: pip install 'hamer-hand-counter[worker]'\n",
        ),
        (
            "console.fpsctl.__main__",
            ["typer"],
            ["list"],
            "fpsctl: typer isn't installed, run: pip install 'hamer-hand-counter[ctl]'\n",
        ),
        (
            "worker.__main__",
            ["cv2"],
            ["detect", "photo.jpg"],
            "hand-counter: cv2 isn't installed, run: pip install 'hamer-hand-counter[worker]'\n",
        ),
    ],
)
def test_a_program_names_the_extra_that_is_missing(
    module: str, packages: list[str], arguments: list[str], line: str, tmp_path: Path
) -> None:
    """The program ends with exit code 1 and one line, without a traceback."""
    program = MISSING.format(module=module, packages=packages, arguments=arguments)
    path = [str(REPOSITORY), str(REPOSITORY / "proto"), *sys.path]
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", line)


def test_a_missing_module_of_our_own_is_a_fault() -> None:
    """No extra would help, so the traceback stays."""
    with pytest.raises(ModuleNotFoundError), required_extra("sidecar", "fps-sidecar"):
        import sidecar.no_such_module  # noqa: F401


def test_what_is_installed_runs() -> None:
    """Nothing happens around imports that succeed, and other errors pass through."""
    with pytest.raises(ZeroDivisionError), required_extra("sidecar", "fps-sidecar"):
        _ = 1 / 0
