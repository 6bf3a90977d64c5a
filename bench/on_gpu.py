"""Everything that is to be measured on a GPU, in about ten minutes: the one command to run when a machine with one is at hand.

    python -m bench.on_gpu
    python -m bench.on_gpu --part detector --part hamer
    python -m bench.on_gpu --dry-run                    the same with small sizes on a CPU: do all parts still run?

Each part is a process of its own with a time limit, so that a part that fails or hangs spoils no other. Writes one JSON file
with all figures and the device's name, and prints the rows of docs/performance.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.gpu_parts import PARTS, Setting
from bench.hamer import device_name

LIMITS_S = {"golden": 90, "networks": 120, "engines": 90, "detector": 120, "uploads": 40, "decoding": 40, "hamer": 220}
"""Seconds for each part."""


def run_part(name: str, *, dry_run: bool, device: str, limit_s: float) -> dict[str, Any]:
    """Runs one part in a process of its own; returns its rows and figures, or the error."""
    with tempfile.TemporaryDirectory(prefix="on-gpu-") as folder:
        out = Path(folder) / "part.json"
        command = [sys.executable, "-m", "bench.on_gpu", "--only", name, "--out", str(out), "--device", device]
        started = time.monotonic()
        try:
            done = subprocess.run(
                [*command, *(["--dry-run"] if dry_run else [])],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit_s,
                check=False,
            )
            failure = "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout[-2000:]}"
        except subprocess.TimeoutExpired:
            failure = f"more than {limit_s:g} s"
        found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"rows": []}
        return {**found, "seconds": round(time.monotonic() - started, 1), **({"error": failure} if failure else {})}


def only(name: str, setting: Setting, out: Path) -> None:
    """Runs one part here, and writes its figures after each row, so that a part that is cut off leaves what it has."""
    rows: list[tuple[str, str]] = []
    figures: dict[str, Any] = {}

    def tell(what: str, figure: str, **values: Any) -> None:
        rows.append((what, figure))
        figures[what] = values
        out.write_text(json.dumps({"rows": rows, "figures": figures}))

    out.write_text(json.dumps({"rows": rows, "figures": figures}))
    PARTS[name](setting, tell)


def markdown(device: str, parts: dict[str, dict[str, Any]]) -> str:
    """Returns the table of docs/performance.md."""
    lines = [
        f"Measured on {device} by `python -m bench.on_gpu`:",
        "",
        "| part | what | figure |",
        "| --- | --- | --- |",
    ]
    for name, part in parts.items():
        lines += [f"| {name} | {what} | {figure} |" for what, figure in part["rows"]]
        if "error" in part:
            lines.append(f"| {name} | | failed: {part['error'].splitlines()[0][:100]} |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="repeatable; default: all")
    parser.add_argument("--dry-run", action="store_true", help="small sizes, on a CPU")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--out", type=Path, default=Path("on_gpu.json"), help="where the figures are written")
    parser.add_argument("--only", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = "cpu" if options.dry_run else options.device
    if options.dry_run:
        torch.set_num_threads(1)
    if options.only:
        only(options.only, Setting(device, options.dry_run), options.out)
        return 0
    name = device_name(torch.device(device))
    parts = {}
    for part in options.part or list(PARTS):
        parts[part] = run_part(part, dry_run=options.dry_run, device=device, limit_s=LIMITS_S[part])
        error = parts[part].get("error", "")
        print(f"{part:10}{parts[part]['seconds']:7.1f} s  {error or 'done'}", flush=True)
        options.out.write_text(json.dumps({"bench": "on_gpu", "device": name, "parts": parts}, indent=1))
    print(markdown(name, parts))
    return 1 if any("error" in part for part in parts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
