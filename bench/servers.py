"""Shared by the sidecar's benches: the server to compare with, and the CPU and memory of a process."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from support.processes.ports import free_port
from support.processes.programs import repository_environment
from support.waiting import wait_until

from handcounter.client.channel import open_channel

_CPU_CLOCK = 2
"""With a process's id, the number of the clock of its CPU time on Linux (clock_getcpuclockid(3))."""

CHANNEL_OPTIONS = (("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0))


def cpu_seconds(pid: int) -> float:
    """Returns the CPU seconds of a process so far, also those of threads that have ended; to the nanosecond where it can be."""
    with contextlib.suppress(OSError):
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waiting_seconds(pid: int) -> float:
    """Returns the seconds that a process's threads were ready without a CPU so far; 0 if the kernel doesn't count it."""
    with contextlib.suppress(FileNotFoundError):
        tasks = [task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(task.split()[1]) for task in tasks) / 1e9
    return 0.0


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private_bytes(pid: int) -> int:
    """Returns the memory of a process that it shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def children(pid: int) -> list[int]:
    """Returns the processes that the first thread of a process has started and that haven't ended."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def channel_to(address: str) -> grpc.Channel:
    """Opens a channel without a proxy."""
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)


@contextlib.contextmanager
def empty_server() -> Iterator[tuple[int, str]]:
    """Starts a server of the sidecar's kind whose ShouldProcess does nothing; yields its process id and address."""
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-m", "bench.empty_server", address], env=repository_environment())
    try:
        with open_channel(address) as channel:
            ready = grpc.channel_ready_future(channel)
            wait_until(lambda: ready.done() or process.poll() is not None, "the empty server")
            ready.result(timeout=1.0)
        yield process.pid, address
    finally:
        process.terminate()
        process.wait(10.0)
