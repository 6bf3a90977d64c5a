"""Runs every bench once, shortened, to check that it still runs. The printed figures mean nothing.

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
    "bench.capture": ["--seconds", "2", "--rounds", "1", "--height", "180"],
    "bench.console": ["--cameras", "50", "--seconds", "2", "--pages", "10"],
    "bench.counting": ["--pictures", str(REPOSITORY / "tests/data/counting"), "--effort", "fast"],
    "bench.counting_figure": ["--figure", "counting.jpg"],
    "bench.detector": ["--rounds", "1", "--figure", "detector.svg"],
    "bench.detector_engines": [str(REPOSITORY / "docs"), "--effort", "fast", "--no-variants"],
    "bench.faults": ["--seconds", "1", "--rounds", "1", "--fault", "killed", "--fault", "failing over"],
    "bench.fleet": ["--quick"],
    "bench.fleet_of_cameras": ["--cameras", "2", "4", "--frames", "40", "--idle-seconds", "0.5"],
    "bench.footprint": ["--seconds", "1", "--rounds", "1", "--starts", "1"],
    "bench.gpu_pod": ["--gpu", "H100", "--hands", "2", "--cores", "4"],
    "bench.hamer": ["--rounds", "1", "--batches", "1"],
    "bench.hamer_start": ["--size", "tiny", "--rounds", "1"],
    "bench.ingest": ["--cameras", "2", "--height", "180", "--settle", "1", "--seconds", "2"],
    "bench.interpreter_lock": ["--rounds", "1"],
    "bench.large_entries": ["--megabytes", "5", "--rounds", "1"],
    "bench.lease": ["--seconds", "1", "--rounds", "1", "--raises", "20"],
    "bench.limits_tree": ["--changes", "5"],
    "bench.names": ["--names", "150000"],
    "bench.on_gpu": ["--dry-run"],
    "bench.others": ["--rounds", "1"],
    "bench.overload": ["--seconds", "4", "--figure", "overload.svg"],
    "bench.pacing": ["--figure", "pacing.svg"],
    "bench.payloads": ["--cameras", "4", "--seconds", "2", "--ttl", "1"],
    "bench.propagation": ["--changes", "20"],
    "bench.soak": ["--seconds", "10"],
    "bench.streams": ["--streams", "1000", "--decisions", "2048", "--rounds", "1"],
    "bench.thinning": ["--seconds", "1", "--limits", "1", "30"],
    "bench.unary": ["--calls", "200", "--rounds", "1"],
    "bench.watch": ["--watchers", "20", "--seconds", "1", "--consoles", "2"],
    "bench.partitions": ["--partitions", "6", "--entries", "600", "--rounds", "1", "--idle-seconds", "0.5"],
    "bench.worker_count": ["--frames", "200", "--rounds", "1"],
    "bench.worker_skip": ["--frames", "2000", "--rounds", "1"],
    "bench.worker_throughput": ["--frames", "8", "--rounds", "1"],
    "chaos.thinning": ["--cameras", "20", "--minutes", "0.1"],
    "fuzz": ["--requests", "2000"],
}
"""The arguments of each module; paths are relative to a temporary folder."""

NEEDS = {
    "bench.console": "playwright",
    "bench.detector_engines": "torch",
    "bench.gpu_pod": "torch",
    "bench.hamer": "torch",
    "bench.hamer_start": "torch",
    "bench.interpreter_lock": "torch",
    "bench.on_gpu": "torch",
    "bench.others": "limits",
}
"""Packages that the tests don't depend on; without them the bench is skipped."""


def run(module: str, folder: Path) -> bool:
    """Runs one bench and prints the outcome; returns whether it succeeded."""
    if module in NEEDS and importlib.util.find_spec(NEEDS[module]) is None:
        print(f"{module:26} skipped: {NEEDS[module]} isn't installed", flush=True)
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
        code, output = "timed out", (late.stdout or b"").decode(errors="replace")
    print(f"{module:26} {time.monotonic() - begun:5.1f} s  {'runs' if code == '0' else f'FAILED ({code})'}", flush=True)
    if code != "0":
        print(output)
    return code == "0"


def main() -> int:
    """Runs the named benches, or all; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="such as soak; default: all")
    options = parser.parse_args()
    names = {module.removeprefix("bench."): module for module in QUICK}
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; expected {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="bench-quick-") as folder:
        succeeded = [run(names[name], Path(folder)) for name in options.names or names]
    return 0 if all(succeeded) else 1


if __name__ == "__main__":
    sys.exit(main())
