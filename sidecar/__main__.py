"""The command fps-sidecar, also ``python -m sidecar``."""

import gc
import os
import sys
from collections.abc import Callable, Sequence

from process import logs, native_lines
from process.extras import required_extra

PROGRAM = "fps-sidecar"
FAILED = 1

EXAMPLES = """\
examples:
  fps-sidecar
      one frame per second for each stream, limits from Redis on this machine, gRPC on 127.0.0.1:50051
  fps-sidecar --fps 0.5 --redis-url redis://:secret@redis.internal:6379/0
      half a frame per second for streams without a limit in Redis
  fps-sidecar --listen unix:/run/fps.sock --listen 127.0.0.1:50051
      a unix socket for the worker in the same pod, TCP for grpcurl
  fps-sidecar --scope fleet --replicas 4 --redis-url redis+sentinel://s1,s2,s3/main/0
      one of four sidecars that share each stream's limit; Sentinels name the master of the service `main`
  fps-sidecar --listen 0.0.0.0:50051 --tls-cert tls.crt --tls-key tls.key --tls-client-ca ca.crt
      for workers on other machines, which must present certificates
  SIDECAR_FPS=inf SIDECAR_LOG_FORMAT=json fps-sidecar
      no limit except those in Redis; each flag is also an environment variable
  fps-sidecar --check --redis-url redis://redis.internal:6379/0
      report limits in Redis that aren't a valid fps, names that look alike, and fields that no stream of the sidecar
      running here has; exit 1 if there are invalid ones or Redis is unreachable
  fps-sidecar --shadow
      admit every frame, and see in the metrics what the limits would do

change a limit while the sidecar runs:
  redis-cli HSET stream_fps_configs cam1 0.25     cam1: one frame in four seconds
  redis-cli HSET stream_fps_configs cam1 0        paused; inf lifts the limit
  redis-cli HSET stream_fps_configs '*' 2         all streams without a limit of their own
  redis-cli HDEL stream_fps_configs cam1          back to the limit of * or --fps

ask what would be decided about a frame now, without using it up:
  grpcurl -plaintext -emit-defaults -d '{"stream_name": "cam1", "dry_run": true}' 127.0.0.1:50051 \\
      handcounter.ratelimit.v1.RateLimitService/ShouldProcess
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sidecar until a signal stops it; returns the exit code."""
    # A start is little else than imports, and what they create stays. Looking for garbage in it is wasted time, now and later.
    gc.disable()
    try:
        native_lines.prepare(sys.argv[1:] if argv is None else argv, os.environ, "SIDECAR_")
        with required_extra("sidecar", PROGRAM):
            run = _program(argv)
    finally:
        gc.freeze()
        gc.enable()
    return run()


def _program(argv: Sequence[str] | None) -> Callable[[], int]:
    """Imports what the settings need; returns what then runs."""
    import asyncio

    from process.settings import parse, unknown_variables
    from process.version import version
    from sidecar.settings import SidecarSettings

    logs.silence_grpc()
    settings = parse(SidecarSettings, argv, prog=PROGRAM, epilog=EXAMPLES, version=version())
    logs.set_up(settings.log_level, settings.log_format)
    logs.warn_of_unknown(unknown_variables([SidecarSettings], os.environ))
    if settings.check:
        from sidecar.check import check
        from sidecar.running import running_streams

        streams = running_streams(settings.listen)
        return lambda: asyncio.run(
            check(settings.redis, settings.redis_access, settings.config_key, settings.fps, streams)
        )
    from sidecar.rpc.listen import ListenError
    from sidecar.server import serve  # --help does without gRPC

    def run() -> int:
        try:
            return asyncio.run(serve(settings))
        except ListenError as error:
            sys.stderr.write(f"{PROGRAM}: {error}\n")
            return FAILED

    return run


if __name__ == "__main__":
    sys.exit(main())
