"""The client of the rate-limit sidecar for Python programs. Needs only grpcio and protobuf.

::

    with RateLimiter("127.0.0.1:50051", default_fps=1.0) as limiter:
        for stream_name, ts, picture in frames():
            (reason,) = limiter.decide([(stream_name, ts)])
            if reason is Reason.ADMITTED:
                process(picture)

A program that only needs to know the limits uses :class:`LimitsWatch`. docs/client.md has more examples;
:mod:`handcounter.client.testing` has a fake sidecar for tests.
"""

from handcounter.client.channel import CHANNEL_OPTIONS, open_channel, tls_credentials
from handcounter.client.limits_watch import LimitsWatch
from handcounter.client.rate_limiter import RateLimiter
from handcounter.client.told_limits import FpsSource, StreamLimit
from handcounter.pacing.schedule import Pacing, Reason

__all__ = [
    "CHANNEL_OPTIONS",
    "FpsSource",
    "LimitsWatch",
    "Pacing",
    "RateLimiter",
    "Reason",
    "StreamLimit",
    "open_channel",
    "tls_credentials",
]
