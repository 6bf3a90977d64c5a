"""``hand-counter publish``, run in this process."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from support.processes.workers import KEYS, QueueServer
from support.publishing import ListSource, captured, jpeg
from support.waiting import wait_until

from handcounter.client import LimitsWatch
from handcounter.client.testing import FakeSidecar
from process.backoff import Backoff
from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url
from worker import __main__ as cli
from worker.publish import camera as camera_module
from worker.publish import command, uplink
from worker.publish.command import run_publish
from worker.publish.open_source import name_of, open_source
from worker.publish.options import (
    CameraOptions,
    DestinationOptions,
    LimitsOptions,
    PublishOptions,
    Reception,
    SourceOptions,
)
from worker.publish.outages import Outages
from worker.publish.publisher import Publisher
from worker.publish.source import Captured, SourceError
from worker.publish.thinning import Unlimited
from worker.queue.partitions import Partitions


@pytest.fixture(autouse=True)
def process_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command limits OpenCV's threads for its own process, and exits it if a thread doesn't end in time."""
    monkeypatch.setattr(cv2, "setNumThreads", lambda _: None)
    monkeypatch.setattr(command, "GRACE_S", 120.0)


@pytest.fixture
def options(valkey: QueueServer, tmp_path: Path) -> PublishOptions:
    """Publishes a folder of three pictures, unless the source is replaced."""
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    return PublishOptions(
        camera=CameraOptions(stream_name="cam1", source=SourceOptions(source=str(tmp_path), folder_fps=50.0)),
        destination=DestinationOptions(
            redis=parse_redis_url(valkey.url),
            access=RedisAccess(),
            partitions=Partitions(KEYS.prefix),
            payload_ttl=60.0,
            max_queue=100,
        ),
        count=None,
        duration=float("inf"),
        progress=float("inf"),
    )


def test_it_publishes_and_reports(
    options: PublishOptions, valkey: QueueServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames are published; the log has the start, the progress and the totals."""

    def frames() -> Iterator[Captured]:
        yield from (captured(index) for index in range(3))
        wait_until(lambda: "progress" in caplog.messages, "a progress line")

    monkeypatch.setattr(camera_module, "open_source", lambda *_: ListSource(frames()))
    with caplog.at_level(logging.INFO):
        assert run_publish(replace(options, progress=0.01)) == 0
    assert valkey.bytes.xlen(KEYS.frames) == 3
    loggers = (camera_module.logger.name, command.logger.name)
    start, *progress, total = [record for record in caplog.records if record.name in loggers]
    assert (start.message, start.stream, start.queue) == ("publishing", "cam1", KEYS.frames)
    assert {record.message for record in progress} == {"progress"}
    assert (total.message, total.stream, total.published, total.dropped) == ("finished", "cam1", 3, 0)


@pytest.mark.parametrize(("fps", "published"), [(25.0, 3), (1.0, 1), (0.0, 0)])
def test_only_what_will_be_admitted_is_published(
    options: PublishOptions, valkey: QueueServer, caplog: pytest.LogCaptureFixture, fps: float, published: int
) -> None:
    """The log says by which limit, and how many frames were left out; that all were isn't an error."""
    caplog.set_level(logging.INFO)
    with FakeSidecar(fps={"cam1": fps}) as sidecar:
        source = SourceOptions(source=options.camera.source.source, folder_fps=20.0, fast=True)
        camera = CameraOptions(stream_name="cam1", source=source)
        assert run_publish(replace(options, camera=camera, limits=LimitsOptions(address=sidecar.address))) == 0
    assert valkey.bytes.xlen(KEYS.frames) == published
    begun, total = (
        next(record for record in caplog.records if record.message == message)
        for message in ("only frames that will be admitted are published", "finished")
    )
    assert (begun.limit, begun.source, begun.sidecar) == (fps, "override", sidecar.address)
    assert (total.published, total.thinned) == (published, 3 - published)


def test_the_sources_rate_is_told(options: PublishOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it publishes; also if nothing is published."""
    monkeypatch.setattr(command, "TELL_S", 0.01)
    with FakeSidecar(fps={"cam1": 0.0}) as sidecar:

        def frames() -> Iterator[Captured]:
            yield from (captured(0, index / 4) for index in range(30))
            wait_until(lambda: sidecar.source_fps == {"cam1": 4.0}, "the rate is told")

        monkeypatch.setattr(camera_module, "open_source", lambda *_: ListSource(frames()))
        assert run_publish(replace(options, limits=LimitsOptions(address=sidecar.address))) == 0
        wait_until(lambda: sidecar.source_fps == {}, "the end is known")


def test_a_signal_ends_the_wait_for_a_limit(options: PublishOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a publisher whose sidecar doesn't start can be stopped."""
    monkeypatch.setattr(uplink, "LIMITS_S", 600.0)

    signals = [signal.SIGTERM]

    def end(*_: object) -> bool:
        if signals:  # a second one would end the process at once
            os.kill(os.getpid(), signals.pop())
        return False

    monkeypatch.setattr(LimitsWatch, "wait_told", end)
    assert run_publish(replace(options, limits=LimitsOptions(address="127.0.0.1:1"))) == 0


def test_a_missing_source_is_an_error(options: PublishOptions, caplog: pytest.LogCaptureFixture) -> None:
    """It is exit code 1, and logged in one line."""
    missing = CameraOptions(stream_name="cam1", source=SourceOptions(source="missing.mp4"))
    assert run_publish(replace(options, camera=missing)) == 1
    assert caplog.messages == ["missing.mp4: no such file or folder"]


def test_an_unreadable_source_is_an_error(
    options: PublishOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the source after its start is exit code 1, and the last line."""
    for path in tmp_path.iterdir():
        path.write_bytes(b"broken")
    assert run_publish(options) == 1
    assert "none of the pictures in this folder can be read" in caplog.messages[-1]


def test_nothing_published_is_an_error(
    options: PublishOptions, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that ends without a frame is exit code 1."""
    monkeypatch.setattr(camera_module, "open_source", lambda *_: ListSource([]))
    assert run_publish(options) == 1
    assert caplog.messages[-1] == "no frame was published"


def test_a_thread_that_cannot_be_interrupted(options: PublishOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a thread is in a system call at the end, the process exits at once with the exit code."""
    join, codes = Publisher.join, []
    monkeypatch.setattr(Publisher, "join", lambda publisher, timeout: join(publisher, timeout) and False)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    run_publish(options)
    assert codes == [0]


def test_flags_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gets its flags as one value."""
    passed: list[PublishOptions] = []
    monkeypatch.setattr(command, "run_publish", lambda options: passed.append(options) or 0)
    flags = ["--stream-name", "cam1", "--loop", "--fast", "--source-fps", "4", "--jpeg-quality", "70", "--count", "9"]
    assert cli.main(["publish", "photos/", *flags, "--prefix", "x", "--partitions", "6"]) == 0
    (options,) = passed
    assert options.camera.source == SourceOptions(
        source="photos/", loop=True, fast=True, folder_fps=4.0, jpeg_quality=70
    )
    assert options.camera.source.reception == Reception("tcp", 5.0)
    assert (options.camera.stream_name, options.destination.partitions) == ("cam1", Partitions("x", 6))
    assert (options.count, options.duration, options.progress) == (9, float("inf"), 5.0)


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> SourceOptions:
    """Returns the source that the command gets for these arguments."""
    passed: list[PublishOptions] = []
    monkeypatch.setattr(command, "run_publish", lambda options: passed.append(options) or 0)
    assert cli.main(["publish", *arguments, "--stream-name", "door"]) == 0
    assert "secret" not in repr(passed[0])
    return passed[0].camera.source


def test_a_source_by_variable_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A URL with a password needn't be an argument, which other users could see."""
    (tmp_path / "url").write_text("rtsp://me:secret@h/x\n")
    (tmp_path / "password").write_text("se/cret\n")
    assert parsed(monkeypatch, "--source-file", str(tmp_path / "url")).source == "rtsp://me:secret@h/x"
    options = parsed(monkeypatch, "rtsp://me:{PASSWORD}@h/x", "--source-password-file", str(tmp_path / "password"))
    assert name_of(options).name == "rtsp://h/…"
    monkeypatch.setenv("WORKER_SOURCE", "rtsp://me:secret@h/x")
    assert parsed(monkeypatch).source == "rtsp://me:secret@h/x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give SOURCE"),
        (["film.mp4", "--source-file", "x"], "twice"),
        (["--source-file", "missing/secret"], "No such file"),
        (["--source-file", "binary"], "isn't text"),
        (["rtsp://me:{PASSWORD}@h/x"], "--source-password-file"),
        (["rtsp://me:pa/secret@h/x"], "escape @ / # ? %"),
        (["film.mp4", "rtsp://me:secret@h/x"], "unrecognized arguments"),
    ],
)
def test_wrong_sources_are_usage_errors(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each is exit code 2 and a line with the reason, which doesn't repeat the source."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["publish", *arguments, "--stream-name", "door"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert words in error
    assert "secret" not in error.replace("missing/secret", "")


def test_the_password_is_read_for_each_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced password is used at the next connection; while the file is missing, the camera counts as lost."""
    path, opened = tmp_path / "password", []

    def refuse(url: str, name: str, _: Reception) -> None:
        opened.append((url, name))
        raise SourceError(f"{name} can't be opened as a video")

    monkeypatch.setattr("worker.publish.open_source.open_capture", refuse)
    outages = Outages("door")
    camera = open_source(SourceOptions(source="rtsp://me:{PASSWORD}@h/x", password_file=path), outages)
    monkeypatch.setattr(camera, "_backoff", Backoff(0.001, 0.001))
    stop = threading.Event()
    reasons: list[str] = []

    def report(reason: str) -> None:
        reasons.append(reason)
        if len(reasons) == 1:
            path.write_text("one\n")
        elif len(reasons) == 2:
            path.write_bytes(b"two")
        else:
            stop.set()

    monkeypatch.setattr(outages, "lost", report)
    assert list(camera.frames(stop, Unlimited())) == []
    assert "can't be read" in reasons[0]
    assert opened == [("rtsp://me:one@h/x", "rtsp://h/…"), ("rtsp://me:two@h/x", "rtsp://h/…")]
