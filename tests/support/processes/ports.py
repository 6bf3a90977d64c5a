"""Free TCP ports for servers that are started later, or killed and started again."""

import contextlib
import random
import socket
from collections.abc import Iterator

FIRST_PORT, LAST_PORT = 10_240, 32_767
"""Below the range from which Linux picks the port of an outgoing connection."""
PORTS_IN_A_BLOCK = 64


def _free_ports() -> Iterator[int]:
    """Yields ports that no other test process on this machine gets from here.

    A port from the kernel (bind to 0, look, close) isn't enough for a server that starts later: once it is closed,
    another test's server or any client's connection may get the same one. So each process reserves a block of ports
    under a name that only one process can bind to, and then another block.
    """
    starts = list(range(FIRST_PORT, LAST_PORT - PORTS_IN_A_BLOCK + 2, PORTS_IN_A_BLOCK))
    random.SystemRandom().shuffle(starts)
    reservations = []
    for start in starts:
        # An abstract name: it lies in no folder and disappears with the process, however that ends.
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0hand-counter-test-ports-{start}")
        except OSError:
            name.close()
            continue
        reservations.append(name)
        for port in range(start, start + PORTS_IN_A_BLOCK):
            if _can_bind(port):
                yield port
    raise AssertionError("all ports are reserved")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


_ports = _free_ports()


def free_port() -> int:
    """Returns a TCP port of 127.0.0.1 on which nothing listens and which no other test gets."""
    return next(_ports)


def accepts(port: int) -> bool:
    """Returns whether something accepts connections on a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False
