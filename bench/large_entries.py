"""The memory of a worker while large pictures come inside entries, compared with its bound.

    python -m bench.large_entries

In one run, with a real Valkey on this machine, a worker with the default settings and a model that takes 50 ms counts some
small frames, then entries of 50 MB each. Prints the growth of its peak memory, and the bound: twice --max-bytes-in-flight and
one entry.
"""

import argparse
import json
import tempfile
from pathlib import Path

from support.processes.workers import KEYS, T0, QueueServer, accounting, picture, publish, worker
from support.waiting import wait_until

from worker.run_settings import RunSettings

SMALL = 10


def peak(pid: int) -> int:
    """Returns the most memory that a process has had so far, bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def growth(entries: int, size: int) -> int:
    """Returns by how many bytes the peak of a worker grows with the large entries."""
    with tempfile.TemporaryDirectory() as folder:
        valkey = QueueServer(Path(folder))
        valkey.bytes.config_set("appendonly", "no")
        try:
            with worker(valkey, seconds=0.05) as process:
                for number in range(SMALL):
                    publish(valkey.bytes, "small", T0 + number)
                wait_until(lambda: accounting(valkey.bytes).get("counted") == SMALL)
                before = peak(process.process.pid)
                for number in range(entries):
                    fields = {"stream_name": f"large{number}", "ts": str(T0), "frame": picture() + bytes(size)}
                    valkey.bytes.xadd(KEYS.frames, fields)
                wait_until(lambda: accounting(valkey.bytes).get("counted") == SMALL + entries)
                return peak(process.process.pid) - before
        finally:
            valkey.close()


def main() -> None:
    """Prints a line for people and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=12)
    parser.add_argument("--megabytes", type=int, default=50, help="of each")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    grown = [growth(options.entries, size) for _ in range(options.rounds)]
    bound = 2 * (RunSettings.model_fields["max_bytes_in_flight"].default + size)
    growths = f"{min(grown) / 1e6:.0f} to {max(grown) / 1e6:.0f} MB in {options.rounds} rounds"
    print(f"{options.entries} entries of {options.megabytes} MB: the worker's peak grows by {growths};")
    print(f"the bound is {bound / 1e6:.0f} MB")
    print(json.dumps({"bench": "large_entries", "growth": grown, "bound": bound}))


if __name__ == "__main__":
    main()
