"""Kills, freezes and spoils the parts of a running system at random, and checks that every frame is settled exactly once.

    python -m chaos                             # a few minutes
    python -m chaos --kills 50 --minutes 30     # make chaos-full

Three simulated cameras publish to a Valkey with appendonly always, and two workers with a simulated detector count by the
limits of a sidecar. First these are killed and frozen, one at a time; then the data in Redis is spoiled, with each fault
once. After each part everything must be settled, exactly once. It fails if a frame is missing, pending or counted twice, or if
counting doesn't resume.

Then RTSP cameras, `hand-counter ingest`, its list and a Valkey are killed, frozen and spoiled (alone: --only-cameras). Every
camera must publish again, what is published must be in the queue once, and no time may go back.
"""
# ruff: noqa: T201 (its output is what it prints)

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from support.waiting import wait_until

from chaos.audit import flaws, publishing_flaws
from chaos.camera_faults import CAMERA_FAULTS
from chaos.cameras import publishing
from chaos.faults import KILLS, SPOILS, Fault, name_of
from chaos.system import CLAIM_IDLE_S, System, running

TAKEOVER_GOAL_S = CLAIM_IDLE_S + 1.0


class Row(NamedTuple):
    """What one fault did."""

    fault: str
    lasted_s: float
    resumed_s: float
    """From the end of the fault until the next result."""
    takeover_s: float | None


class Part(NamedTuple):
    """What one part of the trial found."""

    rows: Sequence[Row]
    received: int
    counted: int
    flaws: Sequence[str]


def main() -> int:
    """Prints tables and one line of JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=16, help="how often a process is killed or frozen")
    parser.add_argument("--minutes", type=float, default=1.0, help="over which the kills are spread")
    parser.add_argument("--seed", type=int, help="of the random choices; by default a new one, which is printed")
    parser.add_argument("--only-cameras", action="store_true", help="kill and spoil only cameras and their publisher")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    chance = random.Random(seed)
    if options.only_cameras:
        print(f"seed {seed}")
        return _run_cameras(chance, options.kills)
    print(f"{options.kills} kills and freezes over {options.minutes:g} minutes, seed {seed}")
    kills = [*KILLS, *(chance.choice(KILLS) for _ in range(options.kills - len(KILLS)))][: options.kills]
    chance.shuffle(kills)
    parts = [
        _run(kills, chance, 60.0 * options.minutes / max(1, len(kills)), entries_deleted=False),
        _run(SPOILS, chance, 1.0, entries_deleted=True),
    ]
    rows = [row for part in parts for row in part.rows]
    takeovers = [row.takeover_s for row in rows if row.takeover_s is not None]
    longest = max(takeovers, default=0.0)
    found = [flaw for part in parts for flaw in part.flaws]
    print(f"{sum(part.received for part in parts)} frames received, {sum(part.counted for part in parts)} counted")
    verdict = "met" if longest <= TAKEOVER_GOAL_S else "MISSED"
    print(f"{len(takeovers)} takeovers, the longest after {longest:.1f} s; goal {TAKEOVER_GOAL_S:g} s: {verdict}")
    for flaw in found:
        print(f"FLAW {flaw}")
    print("FAILED" if found else "good: every frame is settled exactly once")
    figures = {"received": sum(part.received for part in parts), "takeover_s": longest, "flaws": found}
    print(json.dumps({"bench": "chaos", "seed": seed, **figures, "rows": [row._asdict() for row in rows]}))
    return 1 if found else _run_cameras(chance, options.kills)


def _run_cameras(chance: random.Random, kills: int) -> int:
    """Prints what happens to cameras and their publisher; returns the exit code."""
    faults = [*CAMERA_FAULTS, *(chance.choice(CAMERA_FAULTS) for _ in range(kills - len(CAMERA_FAULTS)))]
    chance.shuffle(faults)
    print(f"\n{'fault':28}{'lasted, s':>10}{'resumed after, s':>18}")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, publishing(Path(folder) / "cameras") as cameras:
        try:
            cameras.await_frames()
            for fault in faults:
                began = time.monotonic()
                fault(cameras, chance)
                ended = time.monotonic()
                cameras.await_frames()
                resumed = time.monotonic() - ended
                print(f"{name_of(fault):28}{ended - began:10.1f}{resumed:18.1f}", flush=True)
            found = publishing_flaws(cameras.frames, cameras.stop(), cameras.added())
        except AssertionError as error:
            found = [f"it hasn't recovered: {error}"]
        number = sum(map(len, cameras.frames.values()))
    for flaw in found:
        print(f"FLAW {flaw}")
    print("FAILED" if found else f"good: {number} frames are in the queue once, and no time goes back")
    return 1 if found else 0


def _run(faults: Sequence[Fault], chance: random.Random, pace_s: float, *, entries_deleted: bool) -> Part:
    """Runs a system of its own through faults, then audits it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, running(Path(folder)) as system:
        try:
            system.start_cameras()
            _wait_for_a_result(system, b"0-0")
            print(f"\n{'fault':28}{'lasted, s':>10}{'resumed after, s':>18}{'taken over after, s':>21}")
            rows = list(_faults(system, faults, chance, pace_s))
            system.stop_cameras()
            system.settle_everything()
        except AssertionError as error:
            return Part([], 0, 0, [f"it hasn't recovered: {error}"])
        books = system.books()
        received, counted = (books.accounting.get(field, 0) for field in ("received", "counted"))
        return Part(rows, received, counted, flaws(books, entries_deleted=entries_deleted))


def _faults(system: System, faults: Sequence[Fault], chance: random.Random, pace_s: float) -> Iterator[Row]:
    for fault in faults:
        time.sleep(chance.uniform(0.5, 1.5) * pace_s)  # so that it hits at any point of the work
        began = time.monotonic()
        takeover_s = fault(system, chance)
        ended = time.monotonic()
        _wait_for_a_result(system, system.newest_result())
        row = Row(name_of(fault), ended - began, time.monotonic() - ended, takeover_s)
        taken = "" if takeover_s is None else f"{takeover_s:.1f}"
        print(f"{row.fault:28}{row.lasted_s:10.1f}{row.resumed_s:18.1f}{taken:>21}", flush=True)
        yield row


def _wait_for_a_result(system: System, newest: bytes) -> None:
    wait_until(lambda: system.newest_result() not in (newest, b"0-0"), "a frame is counted")


if __name__ == "__main__":
    sys.exit(main())
