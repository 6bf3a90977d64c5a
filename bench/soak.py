"""Half an hour of steady load with 500 streams, changing limits and changing clients: does memory grow?

    python -m bench.soak
    python -m bench.soak --scope fleet

500 streams of 10 fps are limited to 1 to 7. Half of them are asked about in batches of 50. The other half belongs to five
Python clients with sessions and leases. Each second one of the five is replaced; every other one leaves without closing its
session. A limit changes ten times per second. Each minute one stream in fifty is replaced by one with a new name; there is
room for 550 streams, so after five minutes inactive streams are evicted for new ones.

Memory is read twice a second. Its slope is the Theil-Sen estimate (the median of the slopes between any two points) over the
second half, because the allocator takes memory by the MiB, and a single step isn't a slope. The bound is 2 MiB per hour; a
leak of 60 bytes per changed limit, or of 600 per session, exceeds it. In runs so short that half a MiB in the second half
would exceed it, the bound is half a MiB. The first half isn't judged, because the state of the streams is still filling up.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections import Counter

import grpc
import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.servers import channel_to, cpu_seconds, resident_bytes
from handcounter.client import RateLimiter
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
STREAMS, BATCH, SOURCE_FPS = 500, 50, 10
BATCHES = STREAMS // BATCH
"""Per tenth of a second: the first half in calls, the second half in one session each."""
SESSIONS = BATCHES // 2
ROOM = STREAMS + 50
"""With more room, the state of inactive streams would show up as growth."""
MOST_POINTS = 1000
LINES = 30
GOAL_MIB_PER_HOUR = 2.0
GRAIN_MIB = 0.5


class Cameras:
    """The clients of the sidecar.

    Args:
        address: the sidecar's HOST:PORT.
        channel: for the calls without a session.
        client: a client of its Redis.
    """

    def __init__(self, address: str, channel: grpc.Channel, client: redis.Redis) -> None:
        self.decided: Counter[str] = Counter()
        """Frames by who decided them: "sidecar", "lease", or "batch" without a session; "local" should not occur."""
        self.failed = 0
        self.sessions = 0
        """How many were opened."""
        self._address = address
        self._stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        self._client = client
        self._names = [f"camera-{number:05}" for number in range(STREAMS)]
        self._named = STREAMS
        self._changes = 0
        self._limiters = [self._open() for _ in range(SESSIONS)]

    def ask(self, batch: int, ts: float) -> None:
        """Asks about one frame of each stream of a batch."""
        names = self._names[batch * BATCH : (batch + 1) * BATCH]
        if batch >= BATCHES - SESSIONS:
            self._limiters[batch - BATCHES + SESSIONS].decide([(name, ts) for name in names])
            return
        try:
            self._stub.ShouldProcessBatch(
                pb.ShouldProcessBatchRequest(stream_names=names, ts=[ts] * BATCH), timeout=10.0
            )
            self.decided["batch"] += BATCH
        except grpc.RpcError:
            self.failed += 1

    def change_a_limit(self) -> None:
        """Changes the limit of one stream, each in turn."""
        self._changes += 1
        self._client.hset(KEY, self._names[self._changes * 7 % STREAMS], str(1 + self._changes % 7))

    def replace_a_session(self, second: int) -> None:
        """Replaces one client; every other one leaves without closing its session."""
        place = second % SESSIONS
        old = self._limiters[place]
        if second % 2:
            old._channel.close()
        old.close()
        self._limiters[place] = self._open()

    def replace_streams(self) -> None:
        """Renames one stream in fifty."""
        for number in range(0, STREAMS, 50):
            self._client.hdel(KEY, self._names[number])
            self._names[number] = f"camera-{self._named:05}"
            self._named += 1

    def close(self) -> None:
        """Ends all sessions."""
        for limiter in self._limiters:
            limiter.close()

    def _open(self) -> RateLimiter:
        self.sessions += 1
        return RateLimiter(
            self._address,
            default_fps=2.0,
            deadline=10.0,
            on_decided=lambda by, frames: self.decided.update({by: frames}),
        )


def slope_per_hour(points: list[tuple[float, float]]) -> float:
    """Returns the median of the slopes between any two points of seconds and MiB, in MiB per hour."""
    pairs = itertools.combinations(points, 2)
    return statistics.median((late - early) / (then - at) for (at, early), (then, late) in pairs) * 3600.0


def main() -> int:
    """Prints progress, the slope and one line of JSON; returns the exit code: 1 if memory grew or a call failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1800.0, help="length of the run (default: half an hour)")
    parser.add_argument("--scope", choices=["pod", "fleet"], default="pod", help="scope of the sidecar's limits")
    options = parser.parse_args()
    read_every, print_every = max(0.5, options.seconds / MOST_POINTS), options.seconds / LINES
    points: list[tuple[float, float]] = []
    lines = 0
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process("--scope", options.scope, "--max-streams", str(ROOM), redis_url=server.url, fps=2.0) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        cameras = Cameras(sidecar.address, channel, client)
        begun, cpu = time.monotonic(), cpu_seconds(sidecar.pid)
        print(f"{'minute':>8}{'RSS MiB':>10}{'decisions':>14}{'failed':>8}", flush=True)
        step = 0
        while (now := time.monotonic() - begun) < options.seconds:
            tick, batch = divmod(step, BATCHES)
            second, first = divmod(tick, SOURCE_FPS)
            cameras.ask(batch, 1e6 + now)
            if batch == 0:
                cameras.change_a_limit()
                if first == 0:
                    cameras.replace_a_session(second)
                    if second % 60 == 59:
                        cameras.replace_streams()
            if now >= len(points) * read_every:
                points.append((now, resident_bytes(sidecar.pid) / 2**20))
            if now >= lines * print_every:
                lines += 1
                decisions = cameras.decided.total()
                print(f"{now / 60:8.1f}{points[-1][1]:10.1f}{decisions:14,}{cameras.failed:8}", flush=True)
            step += 1
            time.sleep(max(0.0, begun + step / (BATCHES * SOURCE_FPS) - time.monotonic()))
        cpu, elapsed = cpu_seconds(sidecar.pid) - cpu, time.monotonic() - begun
        complaints = [line for line in sidecar.logs().splitlines() if " ERROR " in line or "Traceback" in line]
        cameras.close()
    decided, failed = cameras.decided, cameras.failed + cameras.decided["local"]
    late = points[len(points) // 2 :]
    slope = slope_per_hour(late)
    bound = max(GOAL_MIB_PER_HOUR, GRAIN_MIB / (late[-1][0] - late[0][0]) * 3600.0)
    print(f"{STREAMS} streams, scope {options.scope}, {decided.total():,} decisions in {elapsed / 60:.1f} minutes:")
    print(f"{decided['batch']:,} in batches, {decided['sidecar']:,} by {cameras.sessions:,} sessions, ", end="")
    print(f"{decided['lease']:,} by leases; {failed:,} failed; CPU of the sidecar {cpu / elapsed:.1%} of a core")
    for line in complaints[:5]:
        print(f"LOGGED {line}")
    print(f"slope over the second half: {slope:+.2f} MiB per hour")
    good = not failed and not complaints and slope <= bound
    print(
        f"goal: nothing fails or is logged as an error, at most {bound:.1f} MiB per hour: {'met' if good else 'MISSED'}"
    )
    figures = {"slope_mib_per_hour": slope, "bound_mib_per_hour": bound, "failed": failed, "sessions": cameras.sessions}
    print(json.dumps({"bench": "soak", "scope": options.scope, "decided": decided, **figures}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
