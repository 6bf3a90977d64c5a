"""Half an hour of steady work: 500 streams, limits that change, clients that come and go; does memory grow?

    python -m bench.soak

500 streams of 10 fps limited to 2, asked about in batches of 100; a limit changes ten times a second, a new client asks
and leaves each second, and a stream in fifty is replaced by one with another name each minute. Memory is read every ten
seconds; the slope is that of a straight line through the second half.
"""

import argparse
import json
import statistics
import sys
import time

import grpc
import redis

from bench.servers import channel_to, cpu_seconds, resident_bytes
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from tests.servers import sidecar_process, valkey

KEY = "stream_fps_configs"
STREAMS, BATCH, SOURCE_FPS = 500, 100, 10
EVERY_S = 10.0
GOAL_MIB_PER_HOUR = 2.0


def main() -> int:
    """Prints a table and one line of JSON; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    points: list[tuple[float, float]] = []
    failed = decisions = 0
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=2.0) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        names = [f"camera-{number:05}" for number in range(STREAMS)]
        begun = time.monotonic()
        cpu = cpu_seconds(sidecar.pid)
        step = 0
        per_round = STREAMS // BATCH
        while (now := time.monotonic() - begun) < options.minutes * 60.0:
            part = step % per_round * BATCH
            request = pb.ShouldProcessBatchRequest(stream_names=names[part : part + BATCH], ts=[1e6 + now] * BATCH)
            try:
                stub.ShouldProcessBatch(request, timeout=10.0)
                decisions += BATCH
            except grpc.RpcError:
                failed += 1
            step += 1
            seconds = step // (per_round * SOURCE_FPS)
            if step % per_round == 0:
                client.hset(KEY, names[step % STREAMS], str(1 + step % 7))
            if step % (per_round * SOURCE_FPS) == 0:
                with channel_to(sidecar.address) as passing:
                    rate_limit_pb2_grpc.RateLimitServiceStub(passing).GetServerInfo(pb.GetServerInfoRequest())
                if seconds % 60 == 0:
                    for number in range(0, STREAMS, 50):
                        client.hdel(KEY, names[number])
                        names[number] = f"camera-{STREAMS + seconds * 10 + number // 50:05}"
            if not points or now - points[-1][0] >= EVERY_S:
                points.append((now, resident_bytes(sidecar.pid) / 2**20))
            time.sleep(max(0.0, begun + step / (per_round * SOURCE_FPS) - time.monotonic()))
        cpu = cpu_seconds(sidecar.pid) - cpu
        elapsed = time.monotonic() - begun
    late = points[len(points) // 2 :]
    slope = statistics.linear_regression([at for at, _ in late], [rss for _, rss in late]).slope * 3600.0
    print(f"{STREAMS} streams, {decisions:,} decisions in {elapsed / 60:.1f} minutes, {failed} calls failed")
    print(f"{'minute':>8}{'RSS MiB':>10}")
    for at, rss in points[:: max(1, len(points) // 12)]:
        print(f"{at / 60:8.1f}{rss:10.1f}")
    print(f"slope over the second half: {slope:+.2f} MiB an hour; CPU {cpu / elapsed:.1%} of a core")
    good = not failed and slope <= GOAL_MIB_PER_HOUR
    print(f"goal: no call fails, at most {GOAL_MIB_PER_HOUR:.0f} MiB an hour: {'met' if good else 'MISSED'}")
    print(json.dumps({"bench": "soak", "slope_mib_per_hour": slope, "failed": failed, "decisions": decisions}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
