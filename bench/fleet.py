"""Fleet scope: rates over replicas and skew, calls to Redis per admitted frame, and the times of decisions.

    python -m bench.fleet [--quick] [rates calls times]

Uses real sidecars and a real Valkey on this machine. Each frame goes to a random replica, in stream time, which passes as
fast as answers arrive. A published state therefore has less time to reach the other replicas than in production.
"""

import argparse
import contextlib
import statistics
import time
import urllib.request
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from support.clients.fleet_player import Player, player
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.proxy import redis_proxy
from support.redis.topologies import cluster, plain_client
from support.redis.valkey import valkey
from support.waiting import wait_until

from handcounter.client.channel import open_channel
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

console = Console(width=120)

PHASES = (1, 4, 2)
"""The number of replicas in each phase."""

SKEWS_S = (0.0, 0.05, 0.1, 0.2)
SOURCES_AND_TARGETS = ((30.0, (1.0, 5.0, 10.0, 15.0, 20.0, 25.0)), (60.0, (20.0, 30.0)))
STREAMS, SOURCE, LIMIT = 1000, 30.0, 2.0
"""Of the part "calls"."""

PROMISED_S = 0.1
"""Up to this skew, and up to half the source's fps, the fleet keeps the rate."""


@contextlib.contextmanager
def fleet(redis_url: str, count: int, *arguments: str, fps: float = 2.0) -> Iterator[list[SidecarProcess]]:
    """Starts replicas, and waits until they have counted each other."""
    with contextlib.ExitStack() as stack:
        flags = ("--scope", "fleet", "--replicas", str(count), *arguments)
        sidecars = [stack.enter_context(sidecar_process(*flags, redis_url=redis_url, fps=fps)) for _ in range(count)]
        for sidecar in sidecars:
            wait_until(lambda sidecar=sidecar: metric(sidecar, "sidecar_replicas") == count, "the replicas are counted")
        yield sidecars


def metric(sidecar: SidecarProcess, name: str) -> float:
    """Returns the value of a metric without labels."""
    with urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def claim_calls(sidecars: Sequence[SidecarProcess]) -> float:
    """Returns the number of calls to the claim script by all replicas so far."""
    return sum(metric(sidecar, "sidecar_claim_calls_total") for sidecar in sidecars)


def rates(seconds: float) -> None:
    """Measures achieved against target fps over 1, 4 and 2 replicas, by the skew between the replicas' decisions."""
    table = Table(title=f"Achieved fps less target, %, over {PHASES} replicas, {seconds:.0f} s of stream time each")
    for heading in ("source", "target", *(f"skew {1000 * skew:.0f} ms" for skew in SKEWS_S), "promised"):
        table.add_column(heading, justify="right")
    with valkey() as redis, fleet(redis.url, 4, "--claim-wait", "1") as sidecars, player(sidecars) as playing:
        for source, targets in SOURCES_AND_TARGETS:
            for target in targets:
                row = []
                for number, skew_s in enumerate(SKEWS_S):
                    name = f"{source:g}-{target:g}-{number}"
                    with plain_client(redis.port) as client:
                        client.hset("stream_fps_configs", name, target)
                    admitted = sum(len(playing.play({name: source}, seconds, n, skew_s)[name]) for n in PHASES)
                    row.append(f"{100 * (admitted / (seconds * len(PHASES)) / target - 1):+.2f}")
                promised = f"to {1000 * PROMISED_S:.0f} ms" if target <= source / 2 else "no"
                table.add_row(f"{source:g}", f"{target:g}", *row, promised)
    console.print(table)


def calls(seconds: float) -> None:
    """Measures calls to Redis per admitted frame."""
    table = Table(title="Calls to the claim script per admitted frame, 4 replicas, 30 to 2 fps")
    for heading in (
        "Redis",
        "streams",
        "frames per call to the sidecar",
        "admitted per s",
        "claims per admitted",
        "CPU",
    ):
        table.add_column(heading, justify="right")
    with valkey() as redis, fleet(redis.url, 4) as sidecars, player(sidecars) as playing:
        count_calls(table, "one server", playing, sidecars, [redis.port], seconds)
    with cluster() as nodes, fleet(nodes.url, 4) as sidecars, player(sidecars) as playing:
        count_calls(table, "cluster of 3", playing, sidecars, [node.port for node in nodes.nodes], seconds)
    console.print(table)


def count_calls(
    table: Table, kind: str, playing: Player, sidecars: Sequence[SidecarProcess], ports: Sequence[int], seconds: float
) -> None:
    """Measures one stream frame by frame, then 1,000 streams in batches of several sizes."""
    measured = Measured(sidecars, ports)
    admitted = len(playing.play({"lonely": 30.0}, 10 * seconds)["lonely"])
    table.add_row(kind, "1", "1", f"{admitted / 10 / seconds:.3f}", *measured.row(admitted))
    for size in (64, 256, 1000):
        names = [f"many{size}-{number}" for number in range(STREAMS)]
        # The cameras aren't in step: they start at different times within one period of the limit.
        starts = [number / STREAMS / LIMIT for number in range(STREAMS)]
        frames = sorted(
            (start + frame / SOURCE, name)
            for name, start in zip(names, starts, strict=True)
            for frame in range(int(seconds * SOURCE))
        )
        measured, admitted = Measured(sidecars, ports), 0
        for number, first in enumerate(range(0, len(frames), size)):
            batch = frames[first : first + size]
            request = pb.ShouldProcessBatchRequest(
                stream_names=[name for _, name in batch], ts=[playing.now + ts for ts, _ in batch]
            )
            answer = playing.stubs[number * 7 % len(playing.stubs)].ShouldProcessBatch(request, timeout=10)
            admitted += sum(answer.should_process)
        each = f"{admitted / seconds / STREAMS:.3f}"
        table.add_row(kind, f"{STREAMS}", f"{size}", each, *measured.row(admitted))


class Measured:
    """The cost of claims since this object was created."""

    def __init__(self, sidecars: Sequence[SidecarProcess], ports: Sequence[int]) -> None:
        self._sidecars, self._ports = sidecars, ports
        self._calls, self._cpu_s, self._began = claim_calls(sidecars), cpu_s(ports), time.monotonic()

    def row(self, admitted: int) -> tuple[str, str]:
        """Returns calls per admitted frame, and Redis' share of a core."""
        share = (cpu_s(self._ports) - self._cpu_s) / (time.monotonic() - self._began)
        return f"{(claim_calls(self._sidecars) - self._calls) / admitted:.3f}", f"{100 * share:.1f} %"


def cpu_s(ports: Sequence[int]) -> float:
    """Returns the CPU seconds that the servers used so far."""
    used = 0.0
    for port in ports:
        with plain_client(port) as client:
            info = client.info("cpu")
            used += info["used_cpu_user"] + info["used_cpu_sys"]
    return used


def times(count: int) -> None:
    """Measures decisions at one of two replicas, as a client in this process sees them."""
    table = Table(title="Time of a decision (unary call), ms")
    for heading in ("Redis", "decided by", "p50", "p99", "longest", "marked as stale"):
        table.add_column(heading, justify="right")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(valkey())
        proxy = stack.enter_context(redis_proxy(redis.port))
        sidecars = stack.enter_context(fleet(proxy.url, 2))
        channel = stack.enter_context(open_channel(sidecars[0].address))
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        measure(table, "well", stub, count)
        proxy.delay_s = 0.2
        measure(table, "takes 200 ms", stub, count)
        redis.pause()
        proxy.delay_s = 0.0
        measure(table, "hangs", stub, count)
        redis.resume()
        redis.kill()
        measure(table, "killed", stub, count)
        redis.restart()
        back = time.monotonic()
        wait_until(lambda: not ask(stub, 1e9 + time.monotonic() * 100).stale, "Redis decides again", every_s=0.005)
        console.print(f"Redis decides again {time.monotonic() - back:.2f} s after its restart")
    console.print(table)


_next_ts = 1000.0


def ask(stub: rate_limit_pb2_grpc.RateLimitServiceStub, ts: float) -> pb.ShouldProcessResponse:
    """Makes one unary call."""
    return stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="timed", ts=ts), timeout=10)


def measure(table: Table, state: str, stub: rate_limit_pb2_grpc.RateLimitServiceStub, count: int) -> None:
    """Measures frames that are due, each of which needs Redis, and frames that are certain to be denied."""
    global _next_ts
    for kind, step in (("a claim", 100.0), ("the local copy", 1e-6)):
        spent, stale = [], 0
        for _ in range(count):
            _next_ts += step
            began = time.perf_counter()
            stale += ask(stub, _next_ts).stale
            spent.append(1000 * (time.perf_counter() - began))
        cuts = statistics.quantiles(spent, n=100)
        share = f"{100 * stale / count:.0f} %"
        table.add_row(state, kind, f"{cuts[49]:.2f}", f"{cuts[98]:.2f}", f"{max(spent):.2f}", share)


def main() -> None:
    """Runs the given parts, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["rates", "calls", "times", []], help="default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    arguments = parser.parse_args()
    parts = arguments.parts or ["rates", "calls", "times"]
    factor = 0.1 if arguments.quick else 1.0
    if "rates" in parts:
        rates(100.0 * factor)
    if "calls" in parts:
        calls(30.0 * factor)
    if "times" in parts:
        times(int(2000 * factor))


if __name__ == "__main__":
    main()
