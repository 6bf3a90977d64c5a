"""process_frame_callback, and the life of a worker in this process."""

import http.client
import json
import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.processes.ports import free_port
from support.processes.workers import NO_SIDECAR, QueueServer, accounting, picture, publish_many

from handcounter.pacing.schedule import Reason
from worker.backend import Backend, BackendError
from worker.hand_counter import process_frame_callback, run, serve
from worker.options import HandsOptions, RunOptions
from worker.picture_header import PictureError
from worker.queue.frame import SkipReason
from worker.results import FrameResult
from worker.run_settings import RunSettings


class Limiter:
    """Decides all frames alike, and notes them."""

    def __init__(self, decision: Reason) -> None:
        self.decision = decision
        self.asked: list[tuple[str, float]] = []

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides."""
        self.asked += frames
        return [self.decision] * len(frames)


class Untouchable:
    """A detector that must not be used."""

    name = "untouchable"
    engine = "fake"

    def detect(self, _: object) -> None:
        """Fails the test."""
        raise AssertionError("the frame was processed")


@pytest.mark.parametrize("frame", [picture(), np.zeros((48, 64, 3), np.uint8)], ids=["jpeg", "array"])
def test_an_admitted_frame_is_counted(frame: object) -> None:
    """The limiter is asked once, with the frame's name and ts; the result has the hands and the picture's size."""
    limiter = Limiter(Reason.ADMITTED)
    result = process_frame_callback("cam1", 12.5, frame, detector=FakeDetector(), limiter=limiter)
    assert isinstance(result, FrameResult)
    assert limiter.asked == [("cam1", 12.5)]
    assert (result.stream_name, result.ts, result.backend) == ("cam1", 12.5, "fake")
    assert (result.width, result.height, result.hand_count) == (64, 48, 1)
    assert result.hands is ONE_HAND


@pytest.mark.parametrize("reason", set(Reason) - {Reason.ADMITTED})
def test_a_denied_frame_is_neither_decoded_nor_processed(reason: Reason) -> None:
    """The result is the reason for skipping it, even if the picture can't be decoded."""
    skipped = process_frame_callback("cam1", 1.0, b"no picture", detector=Untouchable(), limiter=Limiter(reason))
    assert skipped is SkipReason(reason.name.lower())


@pytest.mark.parametrize(("stream_name", "ts"), [("", 1.0), ("x" * 257, 1.0), ("cam", -1.0), ("cam", float("nan"))])
def test_an_invalid_name_or_ts_is_an_error(stream_name: str, ts: float) -> None:
    """Of the caller: the limiter isn't asked."""
    limiter = Limiter(Reason.ADMITTED)
    with pytest.raises(ValueError, match="must"):
        process_frame_callback(stream_name, ts, picture(), detector=Untouchable(), limiter=limiter)
    assert limiter.asked == []


@pytest.mark.parametrize(("data", "max_pixels"), [(b"no picture", 10_000), (picture(), 100)])
def test_an_admitted_frame_that_cannot_be_decoded_is_an_error(data: bytes, max_pixels: int) -> None:
    """Because it isn't a picture, or has too many pixels."""
    limiter = Limiter(Reason.ADMITTED)
    with pytest.raises(PictureError):
        process_frame_callback("cam1", 1.0, data, detector=Untouchable(), limiter=limiter, max_pixels=max_pixels)


def run_options(valkey: QueueServer, **changes: Any) -> RunOptions:
    """Options of a worker that drains the queue, without a sidecar or a limit."""
    given = {
        "redis_url": valkey.url,
        "sidecar": NO_SIDECAR,
        "sidecar_wait": 0.0,
        "unknown_streams": "pace",
        "fps": float("inf"),
        "max_age": float("inf"),
        "threads": 2,
        "http": "",
        "drain": True,
    }
    return RunSettings(**{**given, **changes}).options


def test_a_worker_drains_the_queue(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """The lines of its start and its end have its parts and its totals as fields."""
    publish_many(valkey.bytes, 20)
    with caplog.at_level(logging.INFO):
        assert serve(FakeDetector, run_options(valkey, consumer="me", http=f"127.0.0.1:{free_port()}")) == 0
    assert accounting(valkey.bytes) == {"received": 20, "counted": 20}
    records = {record.message: record for record in caplog.records}
    started, stopped = records["the worker has started"], records["the worker has stopped"]
    assert (started.consumer, started.backend, started.threads) == ("me", "fake", 2)
    assert (stopped.counted, stopped.skipped, stopped.dead, stopped.dropped_unread) == (20, 0, 0, 0)


def test_a_worker_that_cannot_listen_fails(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """With one line that names the address; nothing is read from the queue."""
    publish_many(valkey.bytes, 1)
    address = f"127.0.0.1:{valkey.port}"
    assert serve(FakeDetector, run_options(valkey, http=address)) == 1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (record.address, record.error) == (address, "Address already in use")
    assert accounting(valkey.bytes) == {}


def test_a_worker_that_loads_its_models_says_so(valkey: QueueServer) -> None:
    """Its metrics can be scraped meanwhile, without values that raise alerts, and /healthz says that it isn't ready."""
    address = f"127.0.0.1:{free_port()}"
    seen: dict[str, Any] = {}

    def load() -> FakeDetector:
        connection = http.client.HTTPConnection(address, timeout=10)
        for path in ("/metrics", "/healthz", "/livez"):
            connection.request("GET", path)
            answer = connection.getresponse()
            seen[path] = answer.status, answer.read().decode()
        connection.close()
        return FakeDetector()

    assert serve(load, run_options(valkey, http=address, threads=1)) == 0
    status, metrics = seen["/metrics"]
    assert status == 200
    assert {"hand_counter_redis_up NaN", "hand_counter_sidecar_up NaN"} <= set(metrics.splitlines())
    status, health = seen["/healthz"]
    assert (status, json.loads(health)) == (503, {"healthy": False, "state": "starting"})
    assert seen["/livez"][0] == 200


def test_a_backend_is_closed_after_the_worker(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events are counted by the worker's metrics."""
    publish_many(valkey.bytes, 2)
    closed: list[dict[str, int]] = []

    def fake_open(_options: HandsOptions, on_event: Any) -> Backend:
        on_event("kept", 3)
        return Backend("fake", FakeDetector, lambda image, _: image, lambda: closed.append(accounting(valkey.bytes)))

    monkeypatch.setattr("worker.hand_counter.open_backend", fake_open)
    assert run(HandsOptions(), run_options(valkey)) == 0
    assert closed == [{"received": 2, "counted": 2}]


def test_a_backend_that_does_not_end_is_left_behind(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that hangs doesn't keep the process, which exits with the code that it has."""
    publish_many(valkey.bytes, 2)
    answers, codes = threading.Event(), list[int]()

    def fake_open(_options: HandsOptions, _on_event: object) -> Backend:
        return Backend("fake", FakeDetector, lambda image, _: image, lambda: answers.wait() and None)

    monkeypatch.setattr("worker.hand_counter.open_backend", fake_open)
    monkeypatch.setattr("worker.hand_counter.CLOSES_WITHIN_S", 0.01)
    monkeypatch.setattr("worker.hand_counter.end_process", lambda code: codes.append(code) or 7)
    assert run(HandsOptions(), run_options(valkey)) == 7
    assert codes == [0]
    answers.set()


def test_a_backend_that_cannot_be_opened_is_one_line(
    valkey: QueueServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker isn't started."""

    def fail(_options: HandsOptions, _on_event: object) -> Backend:
        raise BackendError("no such device: cuda:9")

    monkeypatch.setattr("worker.hand_counter.open_backend", fail)
    assert run(HandsOptions(), run_options(valkey)) == 1
    assert caplog.messages == ["no such device: cuda:9"]
