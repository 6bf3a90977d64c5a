"""A worker of several processes: what they share, and how they end."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.ports import free_port
from support.processes.workers import KEYS, QueueServer, Worker, accounting, balance, pending, publish_many, worker
from support.waiting import wait_until

from worker.process_pages import fetch
from worker.queue.keys import CONSUMER_GROUP


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """Yields a Valkey of this test."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


def consumers(valkey: QueueServer) -> set[str]:
    """The names in the consumer group."""
    return {each["name"].decode() for each in valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)}


def children(process: Worker) -> list[int]:
    """The process ids of the group's members."""
    pid = process.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def started(process: Worker) -> None:
    """Waits until both processes count."""
    wait_until(lambda: process.log.count("the worker has started") == 2)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, collected or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_processes_share_queue_and_pages(valkey: QueueServer) -> None:
    """Each is a consumer; one address has the metrics and the health of both; SIGTERM ends both within the grace period."""
    port = free_port()
    flags = ("--processes", "2", "--consumer", "pod", "--http", f"127.0.0.1:{port}", "--grace", "20")
    with worker(valkey, *flags, seconds=0.01) as process:
        started(process)
        wait_until(lambda: fetch(f"http://127.0.0.1:{port}/healthz").status == 200)
        publish_many(valkey.bytes, 60, streams=6)
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 60)
        assert consumers(valkey) == {"pod-0", "pod-1"}
        page = fetch(f"http://127.0.0.1:{port}/metrics").text
        counts = re.findall(r'^hand_counter_counted_total\{process="([01])"\} (\d+)', page, re.MULTILINE)
        assert [number for number, _ in counts] == ["0", "1"]
        assert sum(int(count) for _, count in counts) == 60
        publish_many(valkey.bytes, 40, name="more")
        assert process.terminate() == 0, process.log
        members = process.log.count("the worker has stopped")
    assert members == 2
    left = pending(valkey.bytes)
    assert balance(valkey.bytes) == left
    with worker(valkey, "--processes", "2", "--consumer", "pod", "--claim-idle", "3600", "--drain") as process:
        assert process.wait() == 0, process.log
    assert accounting(valkey.bytes) == {"received": 100, "counted": 100}
    assert balance(valkey.bytes) == 0


def test_one_that_has_done_its_work_leaves_the_others_healthy(valkey: QueueServer) -> None:
    """As in a run with --drain, whose processes don't end at the same moment."""
    port = free_port()
    flags = ("--processes", "2", "--consumer", "pod", "--drain", "--http", f"127.0.0.1:{port}", "--grace", "0.1")
    publish_many(valkey.bytes, 1)
    with worker(valkey, *flags, seconds=50.0) as process:
        started(process)
        wait_until(lambda: pending(valkey.bytes) == 1)
        (holder,) = (
            each["name"] for each in valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP) if each["pending"]
        )
        done = 1 - int(holder.removeprefix(b"pod-"))
        os.kill(children(process)[done], signal.SIGTERM)
        wait_until(lambda: "its work is done" in process.log)
        for path in ("healthz", "livez"):
            page = fetch(f"http://127.0.0.1:{port}/{path}")
            states = [each.get("state") for each in json.loads(page.text)["processes"]]
            assert (page.status, states[done], states[1 - done]) == (200, "done", None)
        assert process.terminate() == 0


def test_one_that_dies_ends_all(valkey: QueueServer) -> None:
    """So that a supervisor starts the worker anew; nothing is lost."""
    publish_many(valkey.bytes, 100, streams=5)
    with worker(valkey, "--processes", "2", "--consumer", "pod", "--grace", "20", seconds=0.05) as process:
        started(process)
        members = children(process)
        assert len(members) == 2
        wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > 0)
        os.kill(members[0], signal.SIGKILL)
        assert process.wait() == 1
        assert "a process has ended; the others stop" in process.log
        assert process.log.count("the worker has stopped") == 1
        assert all(map(is_gone, members))
    with worker(valkey, "--processes", "2", "--consumer", "pod", "--claim-idle", "3600", "--drain") as process:
        assert process.wait() == 0, process.log
    assert accounting(valkey.bytes) == {"received": 100, "counted": 100}


def test_one_that_is_stopped_alone_ends_all(valkey: QueueServer) -> None:
    """Else the worker would go on with fewer processes than it was told, never ready again."""
    with worker(valkey, "--processes", "2") as process:
        started(process)
        os.kill(children(process)[0], signal.SIGTERM)
        assert process.wait() == 1
        assert process.log.count("the worker has stopped") == 2


def ends_at_a_signal(process: Worker) -> bool:
    """Sends SIGTERM; returns whether the process has ended."""
    process.process.send_signal(signal.SIGTERM)
    return process.process.poll() is not None


@pytest.mark.parametrize("again", [False, True])
def test_a_signal_to_all_processes_is_one_signal(valkey: QueueServer, again: bool) -> None:
    """As service managers send it: the frames in progress are counted, unless the first process gets a second signal."""
    publish_many(valkey.bytes, 10, streams=5)
    with worker(valkey, "--processes", "2", "--grace", "60", seconds=60.0 if again else 1.0) as process:
        started(process)
        wait_until(lambda: pending(valkey.bytes) > 0)
        members = children(process)
        for each in (*members, process.process.pid):
            os.kill(each, signal.SIGTERM)
        wait_until(lambda: process.log.count("stopping; a second signal exits at once") == 2)
        if again:
            wait_until(lambda: ends_at_a_signal(process))  # one that comes before the first is handled is part of it
            assert process.wait() == -signal.SIGTERM
            wait_until(lambda: all(map(is_gone, members)))
        else:
            assert process.wait() == 0
            assert process.log.count("the worker has stopped") == 2
    assert accounting(valkey.bytes).get("counted", 0) == 0 if again else balance(valkey.bytes) == pending(valkey.bytes)


def test_without_their_parent_they_stop(valkey: QueueServer) -> None:
    """As at a signal: what they do is finished, and the rest is released."""
    with worker(valkey, "--processes", "2") as process:
        started(process)
        members = children(process)
        process.kill()
        wait_until(lambda: all(map(is_gone, members)))
        wait_until(lambda: process.log.count("the worker has stopped") == 2)


def test_an_address_that_is_taken_ends_it(valkey: QueueServer) -> None:
    """With the reason, and no process is left."""
    port = int(valkey.url.rpartition(":")[2].partition("/")[0])
    with worker(valkey, "--processes", "2", "--http", f"127.0.0.1:{port}") as process:
        assert process.wait() == 1
        assert "can't listen on --http" in process.log
