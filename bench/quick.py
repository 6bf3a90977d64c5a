"""Runs every bench once in its quickest way, to see that each still runs. The figures that they print mean nothing.

python -m bench.quick                  # or make bench-quick
python -m bench.quick soak faults
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.processes.programs import REPOSITORY, repository_environment

DEADLINE_S = 300.0

QUICK: dict[str, list[str]] = {
    "bench.batch": ["--frames", "1024", "--rounds", "1"],
    "bench.faults": ["--seconds", "1", "--rounds", "1", "--fault", "killed", "--fault", "failing over"],
    "bench.fleet": ["--quick"],
    "bench.footprint": ["--seconds", "1", "--rounds", "1", "--starts", "1"],
    "bench.hamer": ["--rounds", "1", "--batches", "1"],
    "bench.lease": ["--seconds", "1", "--rounds", "1", "--raises", "20"],
    "bench.names": ["--names", "150000"],
    "bench.others": ["--rounds", "1"],
    "bench.pacing": ["--figure", "pacing.svg"],
    "bench.propagation": ["--changes", "20"],
    "bench.soak": ["--seconds", "10"],
    "bench.streams": ["--streams", "1000", "--decisions", "2048", "--rounds", "1"],
    "bench.unary": ["--calls", "200", "--rounds", "1"],
    "bench.worker_skip": ["--frames", "2000", "--rounds", "1"],
    "bench.worker_throughput": ["--frames", "8", "--rounds", "1"],
    "fuzz": ["--requests", "2000"],
}
"""By module; a path is one in a temporary folder."""

NEEDS = {"bench.hamer": "torch", "bench.others": "limits"}
"""What isn't among the dependencies of the tests; without it a bench is left out."""


def run(module: str, folder: Path) -> bool:
    """Runs one and says how it went; whether it went well."""
    if module in NEEDS and importlib.util.find_spec(NEEDS[module]) is None:
        print(f"{module:26} left out: {NEEDS[module]} isn't installed", flush=True)
        return True
    path = [str(REPOSITORY), str(REPOSITORY / "proto"), str(REPOSITORY / "tests")]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *QUICK[module]],
            env=repository_environment({"PYTHONPATH": ":".join(path)}),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        code, output = str(done.returncode), done.stdout
    except subprocess.TimeoutExpired as late:
        code, output = "too late", (late.stdout or b"").decode(errors="replace")
    print(f"{module:26} {time.monotonic() - begun:5.1f} s  {'runs' if code == '0' else f'FAILED ({code})'}", flush=True)
    if code != "0":
        print(output)
    return code == "0"


def main() -> int:
    """Runs those that are named, or all; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="such as soak; all without any")
    options = parser.parse_args()
    names = {module.removeprefix("bench."): module for module in QUICK}
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="bench-quick-") as folder:
        good = [run(names[name], Path(folder)) for name in options.names or names]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
