"""Decisions before and during faults of Redis, in batches and in a session.

    python -m bench.faults

Two clients, each in its own process, make 2,000 decisions per second each, ten frames at a time. One makes a call per
batch. The other is the Python client with leases, of which the calls that reach the sidecar are timed. Each round of a
fault has some seconds of healthy load, then the fault for as long. The result is the median over the rounds of the p99
during the fault divided by the p99 before it. The p99 of one round rests on a few calls, so the smallest and the largest
ratio are printed too, and the ratios of three controls: rounds in which nothing happens; rounds in which a Redis that the
sidecar doesn't know is started five times ("restarting" starts its own as often, which takes CPU time from everybody); and
rounds in which other servers fail over. If half of the first control's rounds differ by more than the goal, in either
direction, a missed goal means nothing. "Waited" is the share of time, before and during the fault, in which the sidecar was
ready to run while others had the CPU, summed over its threads; slower calls with a higher share aren't caused by the fault.
All other cases start and end Redis outside of the measured time.

Recovery is the time from a healthy Redis to the first decision at a limit that is set at that moment. In a failover, Redis
is healthy when the Sentinel has a new master. The laws are checked at the end: no call failed, and no stream was
admitted beyond its limit.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from typing import NamedTuple

from support.clients.fault_load import CREDIT_FRAMES, DECISIONS_PER_S
from support.processes.sidecars import sidecar_process
from support.waiting import wait_until

from bench.fault_cases import CASES, CONTROL, PROBE, Case
from bench.fault_clients import BATCH, KINDS, Call, Client, Record
from bench.servers import waiting_seconds
from handcounter.client.channel import open_channel
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

LIMIT = 2.0
GOAL = 1.5


class Round(NamedTuple):
    """The times of one round, seconds on the monotonic clock."""

    began: float
    broken: float
    over: float
    healed: float
    fps: float
    """The limit that was set when Redis was healthy again."""
    waited_before: float
    """The share of time in which the sidecar was ready to run, but had no CPU."""
    waited_during: float


def measure(case: Case, seconds: float, rounds: int) -> tuple[list[Round], dict[str, Record]]:
    """Repeats a fault with one sidecar; returns the times and what each kind of client measured."""
    times = []
    case.fill(LIMIT)
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(sidecar_process(redis_url=case.url, fps=LIMIT, environment=case.environment))
        clients = {kind: stack.enter_context(Client(kind, sidecar.address, LIMIT)) for kind in KINDS}
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(stack.enter_context(open_channel(sidecar.address)))

        def current_fps() -> float:
            return stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=PROBE), timeout=10.0).fps

        for number in range(rounds):
            fps = LIMIT - (number + 1) / 100  # lower each time, so that the law of the first limit holds throughout
            case.prepare(sidecar.address)
            began, waited = time.monotonic(), [waiting_seconds(sidecar.pid)]
            time.sleep(seconds)
            broken = healed = time.monotonic()
            waited.append(waiting_seconds(sidecar.pid))
            with case.happens():
                if case.heals_itself:
                    case.wait_until_healed()
                    healed = time.monotonic()
                    case.fill(fps)
                time.sleep(max(0.0, broken + seconds - time.monotonic()))
                over = time.monotonic()
                waited.append(waiting_seconds(sidecar.pid))
            if not case.heals_itself:
                healed = time.monotonic()
                case.fill(fps)
            wait_until(lambda fps=fps: current_fps() == fps, "the limit after the fault", every_s=0.02)  # type: ignore[misc]
            shares = (waited[1] - waited[0]) / (broken - began), (waited[2] - waited[1]) / (over - broken)
            times.append(Round(began, broken, over, healed, fps, *shares))
        records = {kind: client.finish(times[-1].fps) for kind, client in clients.items()}
    return times, records


def figures(times: list[Round], record: Record, by_batches: Record) -> dict[str, float]:
    """Returns one kind of client's figures for one fault; recovery comes from the batches, whose answers hold the limit."""
    before = [times_ms(record.calls, each.began, each.broken) for each in times]
    during = [times_ms(record.calls, each.broken, each.over) for each in times]
    ratios = [p99(broken) / p99(well) for well, broken in zip(before, during, strict=True)]
    recovery = [
        next(
            call.sent_at + call.took_s
            for call in by_batches.calls
            if call.sent_at > each.broken and call.fps == each.fps
        )
        - each.healed
        for each in times
    ]
    return {
        "calls": statistics.median(map(len, during)),
        "p50_before_ms": statistics.median(itertools.chain(*before)),
        "p50_during_ms": statistics.median(itertools.chain(*during)),
        "p99_before_ms": statistics.median(map(p99, before)),
        "p99_during_ms": statistics.median(map(p99, during)),
        "ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
        "greatest_ratio": max(ratios),
        "typical_difference": statistics.median(max(ratio, 1.0 / ratio) for ratio in ratios),
        "waited_before": statistics.median(each.waited_before for each in times),
        "waited_during": statistics.median(each.waited_during for each in times),
        "recovery_s": statistics.median(recovery),
        "failed": len(record.failures),
        "worst_excess_frames": record.excess,
    }


def times_ms(calls: list[Call], since: float, until: float) -> list[float]:
    """Returns the durations of the calls within a stretch of time, milliseconds."""
    return [call.took_s * 1e3 for call in calls if since <= call.sent_at < until]


def p99(times: list[float]) -> float:
    """Returns the 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


HEADINGS = f"{'':22}{'':9}{'calls':>6}{'p50 ms before, during':>23}{'p99 ms before, during':>23}"
HEADINGS += f"{'ratio':>7}{'of rounds':>14}{'waited':>14}{'recovery s':>12}{'failed':>8}{'frames ahead':>14}"


def show(case: str, kind: str, row: dict[str, float]) -> None:
    """Prints a row."""
    p50 = f"{row['p50_before_ms']:.2f}  {row['p50_during_ms']:.2f}"
    tail = f"{row['p99_before_ms']:.2f}  {row['p99_during_ms']:.2f}"
    spread = f"{row['least_ratio']:.2f} to {row['greatest_ratio']:.2f}"
    waited = f"{row['waited_before']:.1%}  {row['waited_during']:.1%}"
    print(f"{case:22}{kind:9}{row['calls']:6.0f}{p50:>23}{tail:>23}{row['ratio']:7.2f}{spread:>14}{waited:>14}", end="")
    print(f"{row['recovery_s']:12.3f}{row['failed']:8.0f}{row['worst_excess_frames']:14.2f}", flush=True)


def main() -> int:
    """Prints a table and one line of JSON; returns the exit code, which is 0 if the laws hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.5, help="length of each stretch before and during a fault")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fault", action="append", choices=list(CASES), help="run only this case; may be repeated")
    options = parser.parse_args()
    print(f"{DECISIONS_PER_S:,} decisions a second by each kind, {BATCH} frames at a time; ", end="")
    print(f"medians of {options.rounds} rounds of {options.seconds:g} s before and {options.seconds:g} s during")
    print(HEADINGS, flush=True)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.fault or CASES:
        with CASES[name]() as case:
            times, records = measure(case, options.seconds, options.rounds)
        table[name] = {}
        for kind, record in records.items():
            table[name][kind] = figures(times, record, records["batches"])
            show(name, kind, table[name][kind])
            for failure in record.failures[:3]:
                print(f"FAILED {failure}")
    rows = [row for case_rows in table.values() for row in case_rows.values()]
    lawful = all(not row["failed"] and row["worst_excess_frames"] <= CREDIT_FRAMES + 1e-6 for row in rows)
    quick = all(row["ratio"] <= GOAL for row in rows)
    noise = max((row["typical_difference"] for row in table.get(CONTROL, {}).values()), default=1.0)
    missed = "MISSED" if noise <= GOAL else f"can't be judged, half of the control's rounds differ {noise:.2f} times"
    verdict = "met" if quick else missed
    print(f"goal: p99 during at most {GOAL} times that before: {verdict}")
    print(
        f"no call failed, no stream more than {CREDIT_FRAMES} frames ahead of its limit: {'true' if lawful else 'FALSE'}"
    )
    print(json.dumps({"bench": "faults", **table}))
    return 0 if lawful else 1


if __name__ == "__main__":
    sys.exit(main())
