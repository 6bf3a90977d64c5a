"""How much memory a worker takes while large pictures come inside entries of the queue."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.workers import KEYS, T0, QueueServer, accounting, balance, picture, publish, worker
from support.waiting import wait_until

MEGABYTE = 1_000_000
IN_FLIGHT = 13 * MEGABYTE
ENTRY = 10 * MEGABYTE


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """Yields a Valkey."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


def peak(pid: int) -> int:
    """Returns the most memory that a process has had so far, bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_large_entries_take_bounded_memory(valkey: QueueServer) -> None:
    """At most twice --max-bytes-in-flight and one of the largest entries: what is held, and the buffer that brought it.

    Twelve large entries follow small ones, so the worker doesn't know their size before.
    """
    with worker(valkey, "--max-bytes-in-flight", str(IN_FLIGHT), seconds=0.05) as process:
        for number in range(10):
            publish(valkey.bytes, "small", T0 + number)
        wait_until(lambda: balance(valkey.bytes) == 0 and accounting(valkey.bytes).get("received") == 10)
        before = peak(process.process.pid)
        process.process.send_signal(signal.SIGSTOP)
        for number in range(12):
            fields = {"stream_name": f"large{number}", "ts": str(T0), "frame": picture() + bytes(ENTRY)}
            valkey.bytes.xadd(KEYS.frames, fields)
        process.process.send_signal(signal.SIGCONT)
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 22)
        assert peak(process.process.pid) - before < 2 * (IN_FLIGHT + ENTRY)
