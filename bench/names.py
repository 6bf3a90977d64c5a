"""A million different stream names: what a sidecar keeps in memory.

    python -m bench.names

A sidecar with room for the default of 100,000 streams, and a real Valkey in which one name in ten has a limit. Each name is
sent once, in batches, as if a publisher put a counter into the name, while a thousand real streams continue. The bench
prints whatever could grow: streams, memory, and the lines of /metrics. The real streams must get their frames
throughout. A second million of different names shows whether anything still grows.
"""

import argparse
import json
import sys
import time
import urllib.request

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.servers import channel_to, resident_bytes
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
BATCH = 1000
POINTS = 10
REAL = 1000
FPS = 2.0


def metric_lines(http: str) -> int:
    """Returns the number of lines of /metrics."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=30.0) as answer:
        return len(answer.read().splitlines())


def main() -> int:
    """Prints a table and one line of JSON; returns the exit code: 1 if something grows or a real stream lost a frame."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--per-second", type=int, default=50_000, help="maximum of new names")
    options = parser.parse_args()
    real = [f"real-{number:04}" for number in range(REAL)]
    rows: list[dict[str, float]] = []
    print(f"two times {options.names:,} different names, at most {options.per_second:,} a second")
    print(f"{'names':>12}{'streams':>10}{'RSS MiB':>10}{'lines of /metrics':>20}", flush=True)
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=FPS) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        client.hset(KEY, mapping={f"name-{number:07}": "3" for number in range(0, options.names, 10)})
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        asked = admitted = 0
        stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=real, ts=[0.0] * REAL))

        def note(names: int) -> None:
            info = stub.GetServerInfo(pb.GetServerInfoRequest())
            lines = metric_lines(sidecar.http)
            rows.append({"names": names, "streams": info.stream_count, "metric_lines": lines})
            rows[-1]["rss_mib"] = resident_bytes(sidecar.pid) / 2**20
            print(f"{names:12,}{info.stream_count:10,}{rows[-1]['rss_mib']:10.1f}{lines:20}", flush=True)

        note(0)
        for first in range(0, 2 * options.names, BATCH):
            begun = time.monotonic()
            names = [f"name-{number:07}" for number in range(first, first + BATCH)]
            stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names))
            if (first // BATCH) % 10 == 0:  # each real stream's next frame that is due
                asked += REAL
                ts = [float(asked)] * REAL
                answer = stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=real, ts=ts))
                admitted += sum(answer.should_process)
            if (first + BATCH) % (options.names // POINTS) == 0:
                note(first + BATCH)
            time.sleep(max(0.0, BATCH / options.per_second - (time.monotonic() - begun)))
    half, end = rows[len(rows) // 2]["rss_mib"], rows[-1]["rss_mib"]
    print(f"the second {options.names:,} add {end - half:+.1f} MiB; ", end="")
    print(f"{admitted:,} of {asked:,} due frames of the real streams admitted")
    bounded = end - half < 0.1 * half and admitted == asked
    print(f"bounded: {'yes' if bounded else 'NO'}")
    print(json.dumps({"bench": "names", "rows": rows, "admitted": admitted, "asked": asked}))
    return 0 if bounded else 1


if __name__ == "__main__":
    sys.exit(main())
