"""Runs the tests of the rule against mutants of it, and prints the score: ``make mutants``.

The Python files are mutated by mutmut, claim.lua by :mod:`mutation.lua_mutants`; its tests run against a real Valkey. Exit
code 1 if a mutant survives that docs/mutation.md doesn't explain.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutation.lua_mutants import Mutant, mutants
from mutation.report import Survivor, explained, report

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("handcounter", "process", "proto", "sidecar", "tests", "pyproject.toml", "README.md")
LUA = "sidecar/fleet/claim.lua"
LUA_TESTS = ["tests/sidecar/fleet/test_claims.py"]
PYTHON = {
    "handcounter/pacing/schedule.py": ["tests/pacing/test_schedule.py", "tests/pacing/test_schedule_laws.py"],
    "sidecar/fleet/reorder.py": ["tests/sidecar/fleet/test_reorder.py"],
}
"""Mutated files, and the tests that ought to notice."""
DECIDED = {"killed", "timeout", "survived", "no tests"}
"""What mutmut says of a mutant; anything else says nothing about the tests."""
TIMEOUT_S = 300.0
PYTEST = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]


@contextlib.contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """A copy of what the tests of the rule need, so that a mutant is never in the working tree."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        yield Path(folder)


def killed(folder: Path, tests: list[str]) -> bool:
    """Returns whether a test fails, or doesn't end, in this copy of the tree."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *PYTEST, *tests],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(TIMEOUT_S) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a Valkey that a killed test left


def run_lua(jobs: int) -> tuple[int, list[Survivor]]:
    """Returns the number of mutants of claim.lua and those that survive."""
    found = list(mutants((REPOSITORY / LUA).read_text()))
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        folders = [stack.enter_context(copy_of_the_tree()) for _ in range(jobs)]
        if killed(folders[0], LUA_TESTS):
            sys.exit(f"{' '.join(LUA_TESTS)} fails without a mutant")

        def survives(mutant: Mutant) -> bool:
            folder = folders.pop()
            try:
                (folder / LUA).write_text(mutant.script)
                return not killed(folder, LUA_TESTS)
            finally:
                folders.append(folder)

        alive = list(pool.map(survives, found))
    return len(found), [
        Survivor(LUA, mutant.original, mutant.mutated) for mutant, lives in zip(found, alive, strict=True) if lives
    ]


def run_python(file: str, tests: list[str], jobs: int) -> tuple[int, list[Survivor]]:
    """Returns the number of mutmut's mutants of a file and those that survive."""
    mutmut = [sys.executable, "-m", "mutmut"]
    with copy_of_the_tree() as folder:
        settings = f"""
[tool.mutmut]
source_paths = ["{file.partition("/")[0]}"]
only_mutate = ["{file}"]
pytest_add_cli_args = ["--hypothesis-profile=mutants"]
timeout_constant = 60.0
pytest_add_cli_args_test_selection = {tests}
also_copy = {[name for name in COPIED if (REPOSITORY / name).is_dir()]}
"""
        with (folder / "pyproject.toml").open("a") as project:
            project.write(settings)
        done = subprocess.run(
            [*mutmut, "run", "--max-children", str(jobs)], cwd=folder, capture_output=True, text=True, check=False
        )
        results = subprocess.run(
            [*mutmut, "results", "--all", "true"], cwd=folder, capture_output=True, text=True, check=False
        )
        names = re.findall(r"^\s*(\S+__mutmut_\d+): (.+)$", results.stdout, re.MULTILINE)
        if not names or not {status for _, status in names} <= DECIDED:
            sys.exit(
                f"mutmut decided nothing about some mutants of {file}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        survivors = []
        for name, status in names:
            if status in ("survived", "no tests"):
                shown = subprocess.run(
                    [*mutmut, "show", name], cwd=folder, capture_output=True, text=True, check=True
                ).stdout
                survivors.append(Survivor(file, _line(shown, "-"), _line(shown, "+")))
    return len(names), survivors


def _line(diff: str, sign: str) -> str:
    """The first line of a diff that begins so, bare."""
    lines = re.findall(rf"^\{sign}(?!\{sign})(.*)$", diff, re.MULTILINE)
    return re.sub(r"  # .*$", "", lines[0]).strip() if lines else ""


def main() -> int:
    """Runs all mutants, or those of the files that are named."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("files", nargs="*", default=[*PYTHON, LUA], help="which of the files to mutate; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    counts, survivors = {}, []
    for file in options.files:
        count, alive = run_lua(options.jobs) if file == LUA else run_python(file, PYTHON[file], options.jobs)
        counts[file] = count
        survivors += alive
    text, good = report(counts, survivors, explained((REPOSITORY / "docs/mutation.md").read_text()))
    sys.stdout.write(f"{text}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
