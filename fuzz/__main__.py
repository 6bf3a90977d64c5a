"""Sends a large number of random and mutated requests to a sidecar.

    python -m fuzz --requests 1000000

It starts a real sidecar without Redis, with room for 2,000 streams so that eviction takes part. It fails if a call ends with
a status that the contract doesn't allow, if an answer is wrong (also within a session), if a valid request of a session gets
no answer, if the decisions of an uninvolved client change, or if the process dies, logs anything at WARNING or above, or
grows by more than 8 MiB over the second half.
"""
# ruff: noqa: T201 (its output is what it prints)

import argparse
import asyncio
import json
import random
import sys

from support.processes.sidecars import sidecar_process

from fuzz.runner import CANARY_FPS, Fuzzer

GROWTH_BYTES = 8 << 20


def main() -> int:
    """Prints tables and one line of JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, help="seed of the generator; by default a new one, which is printed")
    parser.add_argument("--max-streams", type=int, default=2000)
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"{options.requests:,} requests, seed {seed}", flush=True)
    with sidecar_process("--max-streams", str(options.max_streams), fps=CANARY_FPS) as sidecar:

        def watch(sent: int, seconds: float, rss: int) -> None:
            left = max(0, options.requests - sent) * seconds / sent
            line = (
                f"{sent:>12,} requests{rss / 2**20:10.1f} MiB{sent / seconds:10,.0f} a second{left / 60:8.1f} min left"
            )
            print(line, flush=True)

        outcome = asyncio.run(Fuzzer(sidecar.address, sidecar.pid, seed).run(options.requests, watch))
        alive = sidecar.process.poll() is None
        complaints = [line for line in sidecar.logs().splitlines() if is_complaint(line)]
    for status, count in sorted(outcome.statuses.items()):
        print(f"{status:44}{count:>10,}")
    print(f"{'ShouldProcessSession, responses':44}{outcome.responses:>10,}")
    growth = f"{outcome.growth_bytes / 2**20:+.2f} MiB over the second half"
    print(f"{outcome.requests:,} requests in {outcome.seconds:.0f} s, {growth}")
    for defect in [*outcome.defects, *complaints[:20]]:
        print(f"DEFECT {defect}")
    good = alive and not outcome.defects and not complaints and outcome.growth_bytes <= GROWTH_BYTES
    print("good" if good else "FAILED" if alive else "FAILED: the sidecar died")
    figures = {"requests": outcome.requests, "seconds": outcome.seconds, "growth_bytes": outcome.growth_bytes}
    print(json.dumps({"bench": "fuzz", "seed": seed, "good": good, **figures}))
    return 0 if good else 1


EXPECTED_WARNINGS = ("Redis is unreachable", "the clock of a stream")
"""There is no Redis, and the frames' ts are random."""


def is_complaint(line: str) -> bool:
    """Whether a line of the sidecar's log is one that invalid requests must not cause."""
    is_serious = any(sign in line for sign in (" WARNING ", " ERROR ", " CRITICAL ", "Traceback"))
    return is_serious and not any(expected in line for expected in EXPECTED_WARNINGS)


if __name__ == "__main__":
    sys.exit(main())
