"""Dividing a queue anew while programs use it, all of them real processes, on one Valkey."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.partitioned import PartitionedFrames
from support.processes.workers import QueueServer, Worker, worker
from support.publishing import PublishProcess
from support.waiting import wait_until

from worker.__main__ import main
from worker.queue import repartition
from worker.queue.partition_number import read_partitions

CAMERAS = ("cam1", "cam4")
"""They belong to partitions 2 and 1 of four, so to different shares of two."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """A Valkey."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


@contextlib.contextmanager
def share(valkey: QueueServer, number: int, *flags: str) -> Iterator[Worker]:
    """Runs the worker of one of two shares of four partitions."""
    with worker(valkey, "--partitions", "4", "--own", f"{number}/2", *flags, seconds=0.002) as process:
        yield process


@contextlib.contextmanager
def publishing(valkey: QueueServer) -> Iterator[list[PublishProcess]]:
    """Runs the cameras, 10 frames per second each."""
    where = ("--redis-url", valkey.url, "--partitions", "4", "--progress", "inf")
    with contextlib.ExitStack() as stack:
        processes = []
        for name in CAMERAS:
            processes.append(PublishProcess("synthetic:fps=10,size=64x64", "--stream-name", name, *where))
            stack.callback(processes[-1].end)
        yield processes


def counted(frames: PartitionedFrames, name: str) -> int:
    """Returns how many frames of a camera's partition are counted."""
    keys = frames.partitions.keys_of(name)
    return int(frames.client(keys).hget(keys.accounting, "counted") or 0)


def change(valkey: QueueServer, number: int) -> int:
    """Runs the command; returns its exit code."""
    return main(["repartition", "--redis-url", valkey.url, "--partitions", str(number)])


def refused(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs the command, which must change nothing; returns what it says."""
    assert change(valkey, 2) == 1
    assert read_partitions(valkey.bytes, "hand_counter").number == 4
    errors = capsys.readouterr().err
    assert "nothing is changed: stop the publishers, let the workers drain the queue, and stop them" in errors
    return errors


@pytest.mark.slow
def test_a_queue_in_use_is_refused_and_nothing_is_lost(
    valkey: QueueServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load, and after a worker was killed; its share waits and the other one is counted. Once drained it is divided."""
    with contextlib.closing(PartitionedFrames(valkey.url, 4)) as frames:
        with share(valkey, 0) as first, share(valkey, 1) as second, publishing(valkey) as cameras:
            wait_until(lambda: all(counted(frames, name) >= 10 for name in CAMERAS), "both shares are counted")
            errors = refused(valkey, capsys)
            assert "still reads {hand_counter:1}:frames" in errors
            assert "an entry was added to {hand_counter:2}:frames in the last 10 s" in errors

            second.kill()
            waiting, others = counted(frames, "cam4"), counted(frames, "cam1")
            wait_until(lambda: counted(frames, "cam1") >= others + 10, "the other share is counted")
            assert counted(frames, "cam4") == waiting
            assert "{hand_counter:1}:frames has entries that no worker has read" in refused(valkey, capsys)

            with share(valkey, 1, "--claim-idle", "1") as successor:
                wait_until(lambda: counted(frames, "cam4") >= waiting + 10, "the share has a worker again")
                for camera in cameras:
                    camera.signal(signal.SIGTERM)
                assert [camera.wait() for camera in cameras] == [0, 0]
                wait_until(lambda: frames.balances() == [0] * 4 and not frames.pending(), "what waits is counted")
                assert "still reads {hand_counter:2}:frames" in refused(valkey, capsys)
                assert [process.terminate() for process in (first, successor)] == [0, 0]
        added = sum(frames.client(keys).xinfo_stream(keys.frames)["entries-added"] for keys in all_used(frames))
        before = frames.accounting()
        assert before["received"] == added == before["counted"]

    monkeypatch.setattr(repartition, "ACTIVE_S", 0.0)
    assert change(valkey, 2) == 0
    with contextlib.closing(PartitionedFrames(valkey.url, 2)) as frames:
        assert frames.accounting() == before
        assert frames.balances() == [0, 0]


def all_used(frames: PartitionedFrames) -> list:
    """Returns the keys of the cameras' partitions."""
    return [frames.partitions.keys_of(name) for name in CAMERAS]
