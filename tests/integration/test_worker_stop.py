"""How a worker stops, and how it comes back, whatever goes on around it."""

import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.ports import free_port
from support.processes.sidecars import sidecar_process
from support.processes.workers import QueueServer, accounting, balance, pending, publish_many, worker
from support.waiting import wait_until

from worker.hand_counter import LAST_RESULTS_S
from worker.pipeline.pipeline import UNANSWERED_GRACE_S
from worker.queue.commands import retry_delays

GRACE_S = 1.0
STOPS_WITHIN_S = GRACE_S + UNANSWERED_GRACE_S + LAST_RESULTS_S + 15.0
"""With 15 s for a busy machine. Without a bound a stop would take a minute here, or for ever."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """Yields a Valkey of this test, which it may kill."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


def page(port: int, path: str) -> str:
    """Returns what the endpoint says; empty if there is none yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


@pytest.fixture
def cameras(valkey: QueueServer) -> Iterator[None]:
    """Cameras that publish far more than is counted, during the test."""
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            publish_many(valkey.bytes, 100, streams=20, name=f"camera{number}-")
            number += 1
            stop.wait(0.02)

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize("seconds", [0.02, 600.0])
@pytest.mark.usefixtures("cameras")
def test_sigterm_ends_an_overloaded_worker_within_the_grace_period(valkey: QueueServer, seconds: float) -> None:
    """Also one whose model is far too slow. What isn't counted comes back: the accounting is exact."""
    with worker(valkey, "--grace", str(GRACE_S), "--max-age", "10", seconds=seconds) as process:
        wait_until(lambda: pending(valkey.bytes) > 10)
        assert process.terminate(STOPS_WITHIN_S) == 0
    assert "the worker has stopped" in process.log
    assert balance(valkey.bytes) == pending(valkey.bytes)


@pytest.mark.parametrize("frozen", [False, True])
def test_sigterm_ends_a_worker_without_redis_within_the_grace_period(valkey: QueueServer, frozen: bool) -> None:
    """Whether Redis is gone or doesn't answer."""
    publish_many(valkey.bytes, 50)
    with worker(valkey, "--grace", str(GRACE_S), seconds=0.05) as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > 2)
        if frozen:
            valkey.pause()
        else:
            valkey.kill()
            wait_until(lambda: "Redis is unreachable" in process.log)
        assert process.terminate(STOPS_WITHIN_S) == 0
        assert "the worker has stopped" in process.log


def test_sigterm_ends_a_worker_that_waits_for_its_sidecar(valkey: QueueServer) -> None:
    """However long it may wait at the start."""
    port = free_port()
    flags = ["--grace", str(GRACE_S), "--sidecar-wait", "60", "--http", f"127.0.0.1:{port}"]
    with worker(valkey, *flags) as process:
        wait_until(lambda: "consumer" in page(port, "/healthz"))
        process.process.send_signal(signal.SIGTERM)
        assert process.wait(STOPS_WITHIN_S) == 0


def test_sigterm_ends_a_worker_whose_sidecar_is_frozen(valkey: QueueServer) -> None:
    """The frames of streams with an unknown limit, which wait, come back."""
    with sidecar_process(redis_url=valkey.url) as sidecar:
        flags = ["--grace", str(GRACE_S), "--decision-timeout", "0.2", "--max-age", "60"]
        with worker(valkey, *flags, sidecar=sidecar.address) as process:
            wait_until(lambda: "the worker has started" in process.log)
            sidecar.process.send_signal(signal.SIGSTOP)
            publish_many(valkey.bytes, 50, streams=50, live=False)
            wait_until(lambda: "the sidecar is unreachable" in process.log and pending(valkey.bytes) == 50)
            assert process.terminate(STOPS_WITHIN_S) == 0
        sidecar.kill()
    assert balance(valkey.bytes) == pending(valkey.bytes) == 50


def test_it_resumes_soon_after_an_outage_of_redis(valkey: QueueServer) -> None:
    """However long that was: it goes on trying at least once a second."""
    delays = retry_delays()
    assert max(delays.next() for _ in range(100)) <= 1.0
    with worker(valkey, seconds=0.01) as process:
        wait_until(lambda: "the worker has started" in process.log)
        valkey.kill()
        wait_until(lambda: "Redis is unreachable" in process.log)
        time.sleep(2.5)  # until the delays between attempts are as long as they get
        valkey.restart()
        publish_many(valkey.bytes, 5)
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 5, deadline_s=20.0)
    outage = float(re.findall(r"Redis works again outage_seconds=([0-9.]+)", process.log)[0])
    assert outage < 2.5 + 20.0
