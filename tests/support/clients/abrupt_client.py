"""A client that ends without closing its session.

    python -m support.clients.abrupt_client ADDRESS kill|exit

It gets a lease first.
"""

import os
import signal
import sys

from handcounter.client import RateLimiter


def main() -> None:
    """Gets a lease, and ends."""
    address, end = sys.argv[1:]
    limiter = RateLimiter(address, default_fps=1.0, deadline=10.0)
    assert limiter.wait_ready(10.0)
    limiter.decide([("cam", 1.0)])
    limiter.decide([("cam", 1.1)])
    assert len(limiter._leases) == 1
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
