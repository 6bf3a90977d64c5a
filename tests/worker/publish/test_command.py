"""``hand-counter publish``, run in this process."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from support.processes.workers import KEYS, QueueServer
from support.publishing import ListSource, captured, jpeg
from support.waiting import wait_until

from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url
from worker import __main__ as cli
from worker.publish import command
from worker.publish.command import run_publish
from worker.publish.options import DestinationOptions, PublishOptions, SourceOptions
from worker.publish.publisher import Publisher
from worker.publish.source import Captured


@pytest.fixture(autouse=True)
def threads_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command limits OpenCV's threads for its own process."""
    monkeypatch.setattr(cv2, "setNumThreads", lambda _: None)


@pytest.fixture
def options(valkey: QueueServer, tmp_path: Path) -> PublishOptions:
    """Publishes a folder of three pictures, unless the source is replaced."""
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    return PublishOptions(
        source=SourceOptions(source=str(tmp_path), folder_fps=50.0),
        destination=DestinationOptions(
            redis=parse_redis_url(valkey.url),
            access=RedisAccess(),
            prefix=KEYS.prefix,
            stream_name="cam1",
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

    monkeypatch.setattr(command, "open_source", lambda _: ListSource(frames()))
    with caplog.at_level(logging.INFO):
        assert run_publish(replace(options, progress=0.01)) == 0
    assert valkey.bytes.xlen(KEYS.frames) == 3
    start, *progress, total = [record for record in caplog.records if record.name == command.logger.name]
    assert (start.message, start.stream, start.queue) == ("publishing", "cam1", KEYS.frames)
    assert {record.message for record in progress} == {"progress"}
    assert (total.message, total.stream, total.published, total.dropped) == ("finished", "cam1", 3, 0)


def test_a_missing_source_is_an_error(options: PublishOptions, caplog: pytest.LogCaptureFixture) -> None:
    """It is exit code 1, and logged in one line."""
    assert run_publish(replace(options, source=SourceOptions(source="missing.mp4"))) == 1
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
    monkeypatch.setattr(command, "open_source", lambda _: ListSource([]))
    assert run_publish(options) == 1
    assert caplog.messages[-1] == "no frame was published"


def test_a_thread_that_cannot_be_interrupted(options: PublishOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a thread is in a system call at the end, the process exits at once with the exit code."""
    stop, codes = Publisher.stop, []
    monkeypatch.setattr(Publisher, "stop", lambda publisher: stop(publisher) and False)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    assert run_publish(options) == 0
    assert codes == [0]


def test_flags_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gets its flags as one value."""
    passed: list[PublishOptions] = []
    monkeypatch.setattr(command, "run_publish", lambda options: passed.append(options) or 0)
    flags = ["--stream-name", "cam1", "--loop", "--fast", "--source-fps", "4", "--jpeg-quality", "70", "--count", "9"]
    assert cli.main(["publish", "photos/", *flags, "--prefix", "x"]) == 0
    (options,) = passed
    assert options.source == SourceOptions(source="photos/", loop=True, fast=True, folder_fps=4.0, jpeg_quality=70)
    assert (options.destination.stream_name, options.destination.prefix) == ("cam1", "x")
    assert (options.count, options.duration, options.progress) == (9, float("inf"), 5.0)
