"""The worker and its client with a real sidecar and a real Valkey."""

import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.ports import free_port
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, sidecar_process
from support.processes.workers import (
    KEYS,
    T0,
    QueueServer,
    accounting,
    balance,
    calls,
    pending,
    publish,
    publish_many,
    worker,
)
from support.redis.proxy import redis_proxy
from support.waiting import wait_until

from handcounter.client import RateLimiter
from handcounter.pacing.schedule import Reason
from worker.queue.keys import CONSUMER_GROUP

NO_SERVER = 1
"""A port at which no server listens."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """Returns a Valkey for both the queue and the limits."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


def counted_by_stream(valkey: QueueServer) -> Counter[str]:
    """Returns the number of results per stream."""
    return Counter(fields[b"stream_name"].decode() for _, fields in valkey.bytes.xrange(KEYS.counts))


def times_delivered(valkey: QueueServer) -> list[int]:
    """Returns how often Redis says that each pending entry was delivered."""
    return [row["times_delivered"] for row in valkey.bytes.xpending_range(KEYS.frames, CONSUMER_GROUP, "-", "+", 100)]


def test_each_stream_is_counted_at_its_own_live_fps(valkey: QueueServer) -> None:
    """The sidecar's overrides, wildcard and default decide what is counted, not the worker's --fps."""
    valkey.bytes.hset("stream_fps_configs", mapping={"cam0": "10", "cam1": "0", "*": "3"})
    with sidecar_process(redis_url=valkey.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        with worker(valkey, "--drain", "--batch-size", "64", sidecar=sidecar.address) as process:
            publish_many(valkey.bytes, 3 * 300, streams=3, fps=30.0)  # 10 s of each stream
            assert process.wait() == 0
        assert counted_by_stream(valkey) == {"cam0": 100, "cam2": 30}
        valkey.bytes.delete("stream_fps_configs")
        with worker(valkey, sidecar=sidecar.address) as process:
            # The change is pushed at some time; new streams show when it has arrived.
            probes = iter(range(10_000))

            def default_in_force() -> bool:
                name, counted = f"probe{next(probes)}", accounting(valkey.bytes).get("counted", 0)
                publish_many(valkey.bytes, 2, fps=1 / 0.9, name=name)
                wait_until(lambda: pending(valkey.bytes) == balance(valkey.bytes) == 0)
                return accounting(valkey.bytes)["counted"] == counted + 1

            wait_until(default_in_force)
            assert process.terminate() == 0
    assert balance(valkey.bytes) == 0
    assert "is unreachable" not in process.log


def test_skipped_frames_cost_one_decision_call_per_batch(valkey: QueueServer) -> None:
    """Many frames cost few calls to the queue and the sidecar, and no GET for a paused stream."""
    valkey.bytes.hset("stream_fps_configs", "*", "0")
    with sidecar_process(redis_url=valkey.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        publish_many(valkey.bytes, 1000, streams=10)
        with worker(valkey, "--drain", "--batch-size", "250", sidecar=sidecar.address) as process:
            assert process.wait() == 0
    assert accounting(valkey.bytes) == {"received": 1000, "skipped:paused": 1000}
    assert calls(valkey.bytes, "get") == 1  # the check of the permissions
    assert calls(valkey.bytes, "mget") == 0
    assert calls(valkey.bytes, "hincrby") < 100  # a few for each batch, and one for each of its ten streams


def test_what_was_admitted_before_a_crash_is_counted_after_it(valkey: QueueServer) -> None:
    """The worker doesn't ask about a redelivered entry, because the sidecar would call it a duplicate."""
    with sidecar_process(redis_url=valkey.url, fps=1.0) as sidecar:
        publish(valkey.bytes, "cam", T0)
        with worker(valkey, "--consumer", "same-pod", seconds=60.0, sidecar=sidecar.address) as process:
            wait_until(lambda: calls(valkey.bytes, "get") == 2)  # the first one checks the permissions
            process.kill()
        with worker(valkey, "--consumer", "same-pod", "--drain", sidecar=sidecar.address) as process:
            assert process.wait() == 0
    assert accounting(valkey.bytes) == {"received": 1, "counted": 1}


def test_an_entry_that_is_redelivered_too_late_is_stale(valkey: QueueServer) -> None:
    """After a crash old frames are skipped, like any old frame."""
    publish_many(valkey.bytes, 5)
    with worker(valkey, "--consumer", "same-pod", seconds=60.0) as process:
        wait_until(lambda: pending(valkey.bytes) == 5)
        process.kill()
    with worker(valkey, "--consumer", "same-pod", "--max-age", "0.05", "--drain") as process:
        assert process.wait() == 0
    assert accounting(valkey.bytes) == {"received": 5, "skipped:stale": 5}


def test_a_killed_sidecar_is_replaced_by_local_pacing_until_it_returns(valkey: QueueServer) -> None:
    """Each stream continues at its last fps, paused streams stay paused; loss and return are logged once."""
    valkey.bytes.hset("stream_fps_configs", mapping={"cam0": "10", "cam1": "0"})
    port = free_port()
    with worker(valkey, "--fps", "1", sidecar=f"127.0.0.1:{port}") as process:
        with sidecar_process(redis_url=valkey.url, port=port, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
            wait_until(lambda: "is unreachable" not in process.log or "is reachable again" in process.log)
            publish_many(valkey.bytes, 2 * 90, streams=2, fps=30.0)
            wait_until(lambda: accounting(valkey.bytes).get("received") == 180 and balance(valkey.bytes) == 0)
            before = counted_by_stream(valkey)
            sidecar.kill()
        losses = process.log.count("is unreachable")
        publish(valkey.bytes, "cam1", T0 + 3.0)
        for i in range(90, 180):
            publish(valkey.bytes, "cam0", T0 + i / 30)
        wait_until(lambda: accounting(valkey.bytes).get("received") == 271 and balance(valkey.bytes) == 0)
        during = counted_by_stream(valkey)
        assert process.log.count("is unreachable") == losses + 1
        with sidecar_process(redis_url=valkey.url, port=port, constants=LIMITS_ARE_WAITED_FOR):
            wait_until(lambda: process.log.count("is reachable again") == process.log.count("is unreachable"))
            publish(valkey.bytes, "cam0", T0 + 100.0)
            wait_until(lambda: accounting(valkey.bytes).get("received") == 272 and balance(valkey.bytes) == 0)
            assert process.terminate() == 0
    assert before == {"cam0": 30}
    assert during == {"cam0": 60}
    assert counted_by_stream(valkey) == {"cam0": 61}


def test_a_paused_camera_is_not_counted_by_a_worker_that_starts_first(valkey: QueueServer) -> None:
    """It waits for the sidecar, also across a crash; only then does it know what is paused."""
    valkey.bytes.hset("stream_fps_configs", mapping={"cam0": "0", "cam1": "inf"})
    publish_many(valkey.bytes, 20, streams=2)
    port = free_port()
    flags = ("--unknown-streams", "wait", "--consumer", "same-pod", "--sidecar-wait", "0.1", "--max-deliveries", "1")
    for _ in range(3):
        with worker(valkey, *flags, sidecar=f"127.0.0.1:{port}") as process:
            wait_until(lambda: pending(valkey.bytes) == 20 and "deciding locally" in process.log)
            wait_until(lambda: set(times_delivered(valkey)) == {0})
            process.kill()
    with worker(valkey, *flags, sidecar=f"127.0.0.1:{port}") as process:
        with sidecar_process(redis_url=valkey.url, port=port, constants=LIMITS_ARE_WAITED_FOR):
            wait_until(lambda: pending(valkey.bytes) == 0)
        assert process.terminate() == 0
    assert accounting(valkey.bytes) == {"received": 20, "counted": 10, "skipped:paused": 10}
    assert counted_by_stream(valkey) == {"cam1": 10}


def test_a_paused_camera_is_not_counted_if_the_sidecar_starts_without_redis(valkey: QueueServer) -> None:
    """The sidecar can be asked, but hasn't read the limits; the frames wait until it has."""
    valkey.bytes.hset("stream_fps_configs", mapping={"cam0": "0", "cam1": "inf"})
    publish_many(valkey.bytes, 20, streams=2)
    with (
        redis_proxy(NO_SERVER) as proxy,
        sidecar_process(redis_url=proxy.url) as sidecar,
        worker(valkey, "--unknown-streams", "wait", sidecar=sidecar.address) as process,
    ):
        wait_until(lambda: pending(valkey.bytes) == 20 and set(times_delivered(valkey)) == {0})
        assert "deciding locally" not in process.log
        proxy.move_to(valkey.port)
        wait_until(lambda: pending(valkey.bytes) == 0)
        assert process.terminate() == 0
    assert accounting(valkey.bytes) == {"received": 20, "counted": 10, "skipped:paused": 10}
    assert counted_by_stream(valkey) == {"cam1": 10}


def test_without_any_sidecar_unknown_streams_are_skipped_by_a_reason_of_their_own(valkey: QueueServer) -> None:
    """After --max-age; with --unknown-streams pace they are counted at --fps."""
    publish_many(valkey.bytes, 5)
    with worker(valkey, "--unknown-streams", "wait", "--max-age", "1", "--drain") as process:
        assert process.wait() == 0
    assert accounting(valkey.bytes) == {"received": 5, "skipped:limit_unknown": 5}
    publish_many(valkey.bytes, 60, fps=30.0, name="another")
    with worker(valkey, "--fps", "5", "--drain") as process:
        assert process.wait() == 0
    fields = accounting(valkey.bytes)
    assert (fields["counted"], fields["skipped:too_soon"]) == (10, 50)


def test_a_frozen_sidecar_costs_one_deadline_in_all(caplog: pytest.LogCaptureFixture) -> None:
    """After SIGSTOP only the first batch waits for the deadline; after SIGCONT the sidecar is asked again."""
    caplog.set_level(logging.INFO)
    with sidecar_process(fps=5.0) as sidecar:
        limiter = RateLimiter(sidecar.address, default_fps=1.0, deadline=4.0)
        assert limiter.wait_ready(60.0)
        assert limiter.decide([("cam", 0.0), ("cam", 0.1)]) == [Reason.ADMITTED, Reason.TOO_SOON]
        os.kill(sidecar.pid, signal.SIGSTOP)
        started = time.monotonic()
        reasons = [limiter.decide([("cam", i / 10)])[0] for i in range(2, 102)]
        assert 4.0 <= time.monotonic() - started < 60.0  # one deadline per batch would take 400 s
        assert reasons.count(Reason.ADMITTED) == 50
        os.kill(sidecar.pid, signal.SIGCONT)
        wait_until(lambda: not limiter.sidecar_unreachable)
        limiter.decide([("cam", 1000.0)])
        limiter.close()
    assert [message.split()[3].rstrip(",") for message in caplog.messages] == ["unreachable", "reachable"]


def test_a_restarted_sidecar_is_found() -> None:
    """The client notices by itself that there is a sidecar again; tests/client/test_channel.py has how often it looks."""
    port = free_port()
    with sidecar_process(port=port) as sidecar:
        limiter = RateLimiter(sidecar.address, default_fps=1.0)
        assert limiter.wait_ready(60.0)
        sidecar.kill()
        limiter.decide([("cam", 0.0)])
        assert limiter.sidecar_unreachable
    with sidecar_process(port=port):
        wait_until(lambda: not limiter.sidecar_unreachable)
    limiter.close()
