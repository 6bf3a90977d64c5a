from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.processes.workers import KEYS, QueueServer
from support.waiting import wait_until

from worker.publish import status_writer
from worker.publish.camera_status import TTL_S, CameraState, CameraStatus
from worker.publish.destination import on_one_server
from worker.publish.status_writer import StatusWriter
from worker.queue.redis_client import connect


def status(state: CameraState = CameraState.WORKING, **fields: object) -> CameraStatus:
    """Returns the state of a camera."""
    return CameraStatus(state=state, since=1.0, source="0", **fields)


@contextmanager
def writing(valkey: QueueServer, statuses: dict[str, CameraStatus]) -> Iterator[StatusWriter]:
    """Writes states, which may be changed meanwhile."""
    with connect(valkey.url) as client:
        writer = StatusWriter(on_one_server(client, KEYS), lambda: dict(statuses))
        writer.start()
        yield writer
        writer.stop(10.0)


def field(valkey: QueueServer, name: str, what: str) -> str:
    """Returns what is written of a camera."""
    return (valkey.bytes.hget(KEYS.camera(name), what) or b"").decode()


def test_changes_are_written_at_once(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the last state at the end; each hash expires."""
    monkeypatch.setattr(status_writer, "_LOOK_S", 0.01)
    statuses = {"door": status(), "yard": status(CameraState.STARTING)}
    with writing(valkey, statuses):
        wait_until(lambda: field(valkey, "yard", "state") == "starting")
        statuses["yard"] = status(CameraState.LOST, error="refused", error_at=5.0)
        wait_until(lambda: field(valkey, "yard", "error") == "refused")
        assert 0 < valkey.bytes.ttl(KEYS.camera("door")) <= TTL_S
        statuses["door"] = status(CameraState.STOPPED)
    assert field(valkey, "door", "state") == "stopped"


def test_counters_are_written_now_and_then(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all cameras together, so that they take few round trips."""
    monkeypatch.setattr(status_writer, "_LOOK_S", 0.01)
    monkeypatch.setattr(status_writer, "EVERY_S", 0.2)
    statuses = {"door": status()}
    with writing(valkey, statuses):
        wait_until(lambda: field(valkey, "door", "state"))
        statuses["door"] = status(published=7)
        wait_until(lambda: field(valkey, "door", "published") == "7")


def test_a_redis_that_is_away_delays_nothing(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states are written once it is back; nothing is logged, since the sender does that."""
    monkeypatch.setattr(status_writer, "_LOOK_S", 0.01)
    valkey.kill()
    statuses = {"door": status()}
    with writing(valkey, statuses):
        valkey.restart()
        wait_until(lambda: field(valkey, "door", "state") == "working")


def test_a_stop_does_not_wait_for_a_silent_redis(valkey: QueueServer) -> None:
    """It returns after the time that it is given."""
    valkey.pause()
    try:
        with connect(valkey.url) as client:
            writer = StatusWriter(on_one_server(client, KEYS), lambda: {"door": status()})
            writer.start()
            assert not writer.stop(0.05)
    finally:
        valkey.resume()
    wait_until(lambda: writer.stop(0.05))
