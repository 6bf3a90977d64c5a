"""The forks that stand for the processes of pytest-xdist, and those that stand for the programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import forks, programs
from support.processes.forks import ForkedProcess, ForkServer

PROCESSES = Path(forks.__file__).parent
# As pytest-xdist does it: the code comes by standard input.
PYTHON = ["-u", "-c", "import sys;exec(eval(sys.stdin.readline()))"]
CODE = """
import os, sys
from pathlib import Path
modules = [name for name in sys.modules if name.startswith("test_")]
print(Path.cwd().name, *sorted(modules), "pytest" in sys.modules, sys.stdin.readline().strip(), flush=True)
sys.exit(3) if len(sys.argv) == 1 else None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a test."""
    (tmp_path / "test_one.py").write_text("def test_passes():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    return tmp_path


def said_by_forks(folder: Path, number: int = 1) -> list[str]:
    """Returns what forks print that run CODE."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with ForkServer([str(folder)], environment, PROCESSES / "pytest_fork_server.py") as server:
        command = [sys.executable, str(PROCESSES / "pytest_fork.py"), server.address.hex(), *PYTHON]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)
        ]
        return [process.communicate(f"{CODE!r}\nhello\n", timeout=120)[0] for process in processes]


def test_a_fork_has_the_files_of_its_process_and_the_tests(folder: Path) -> None:
    """Each runs the code that it gets as any Python would."""
    assert said_by_forks(folder, 2) == [f"{Path.cwd().name} test_one True hello\n"] * 2


def test_what_was_skipped_is_imported_again(folder: Path) -> None:
    """Each fork skips it for itself, and reports that."""
    skip = "import pytest\npytest.skip(allow_module_level=True)\n"
    (folder / "test_two.py").write_text(skip)
    (folder / "inside").mkdir()
    (folder / "inside" / "conftest.py").write_text(skip)
    assert said_by_forks(folder) == [f"{Path.cwd().name} test_one True hello\n"]


def test_nothing_half_imported_is_used(folder: Path) -> None:
    """If a module fails, each process imports the tests for itself."""
    (folder / "test_two.py").write_text("import missing\n")
    assert said_by_forks(folder) == [f"{Path.cwd().name} False hello\n"]


def test_the_programs_are_still_forked_after_a_block_inside(tmp_path: Path) -> None:
    """Such as that of a test of :mod:`chaos`, which forks also where no tests run."""
    with programs.forks():
        pass
    with (tmp_path / "output").open("wb") as output:
        process = programs.start("sidecar", "--version", output=output)
    try:
        assert isinstance(process, ForkedProcess)
        assert process.wait(programs.START_DEADLINE_S) == 0
    finally:
        programs.end(process)
