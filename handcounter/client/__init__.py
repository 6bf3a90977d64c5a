"""The client of the rate-limit sidecar for Python programs. Needs only grpcio and protobuf.

::

    with RateLimiter("127.0.0.1:50051", default_fps=1.0) as limiter:
        for stream_name, ts, picture in frames():
            (reason,) = limiter.decide([(stream_name, ts)])
            if reason is Reason.ADMITTED:
                process(picture)

docs/client.md has more examples; :mod:`handcounter.client.testing` has a fake sidecar for tests.
"""

from handcounter.client.channel import CHANNEL_OPTIONS, open_channel, tls_credentials
from handcounter.client.rate_limiter import RateLimiter
from handcounter.pacing.schedule import Reason

__all__ = ["CHANNEL_OPTIONS", "RateLimiter", "Reason", "open_channel", "tls_credentials"]
