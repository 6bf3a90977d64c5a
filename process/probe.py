"""What both probes have in common: the command line, the address to ask, and the exit codes.

A probe asks a process on the same machine whether it is healthy, for containers whose runtime can't ask.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from process.address import split_host_port

TIMEOUT_S: Final = 2.0
"""How long a process may take to answer."""

HEALTHY: Final = 0
UNHEALTHY: Final = 1
WRONG_USAGE: Final = 2

Problem = Callable[[str], str | None]
"""Asks the process that listens on an address. Returns why it isn't healthy, or None if it is.

Raises ValueError if the address isn't valid.
"""


def run(argv: Sequence[str] | None, usage: str, configured: str, problem: Problem) -> int:
    """Runs a probe as a command.

    Args:
        argv: Arguments, at most the address to ask; None for those of the process.
        usage: The command with its argument, for errors.
        configured: The address to ask without an argument.
        problem: Asks.

    Returns:
        The exit code. Unless it is 0, there is one line with the reason on standard error.
    """
    address, *more = [*(sys.argv[1:] if argv is None else argv)] or [configured]
    try:
        if more:
            raise ValueError(f"expected one address, got {' '.join([address, *more])}")
        reason = problem(address)
    except ValueError as error:
        sys.stderr.write(f"{usage}: {error}\n")
        return WRONG_USAGE
    if reason is None:
        return HEALTHY
    sys.stderr.write(f"{address}: {reason}\n")
    return UNHEALTHY


def local_address(listen: str) -> str:
    """Returns where this machine reaches a server that listens on an address: on loopback if it is every interface.

    Args:
        listen: HOST:PORT, [IPV6]:PORT, :PORT or unix:/path.

    Raises:
        ValueError: It is none of these.
    """
    if listen.startswith("unix:"):
        return listen
    host, port = split_host_port(listen)
    if host in ("", "0.0.0.0"):
        return f"127.0.0.1:{port}"
    return f"[::1]:{port}" if host == "::" else listen
