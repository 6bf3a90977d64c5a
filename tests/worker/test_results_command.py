"""Printing the results that Redis keeps."""

import csv
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import redis
from support.processes.programs import REPOSITORY
from support.processes.workers import KEYS, QueueServer
from support.waiting import wait_until

from worker.__main__ import main
from worker.hands.detection import Hands
from worker.queue.partitions import Partitions
from worker.queue.redis_client import connect
from worker.results import FrameResult
from worker.results_format import COLUMNS, formatter, header
from worker.results_reader import MergedResults, ResultsReader


def result(number: int, stream_name: str = "cam1") -> str:
    """The JSON of a result without hands."""
    frame = FrameResult(stream_name, 1000.5 + number, "palm", "litert", 640, 480, Hands.empty(), 0.001, 0.02)
    return frame.to_json(f"{number}-0", 0.125)


def write(client: redis.Redis, *numbers: int, stream_name: str = "cam1") -> None:
    """Adds results, as a worker does."""
    with client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            fields = {"stream_name": stream_name, "ts": "1", "result": result(number, stream_name)}
            pipeline.xadd(KEYS.counts, fields, id=f"{number}-0")
        pipeline.execute()


@pytest.fixture
def client(valkey: QueueServer) -> Iterator[redis.Redis]:
    with connect(valkey.url) as client:
        yield client


def printed(valkey: QueueServer, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    """The lines of the command."""
    assert main(["results", "--redis-url", valkey.url, *flags]) == 0
    return capsys.readouterr().out.splitlines()


def test_all_that_are_kept(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> None:
    """However many pages they are, in their order."""
    write(valkey.bytes, *range(1, 1201))
    lines = printed(valkey, capsys, "--jsonl")
    assert [json.loads(line)["entry_id"] for line in lines] == [f"{number}-0" for number in range(1, 1201)]


def test_of_one_stream(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> None:
    """And only the last ones of it."""
    write(valkey.bytes, 1, 2)
    write(valkey.bytes, 3, stream_name="cam2")
    write(valkey.bytes, 4, 5)
    write(valkey.bytes, 6, stream_name="cam2")
    lines = printed(valkey, capsys, "--jsonl", "--stream", "cam1", "--last", "2")
    assert [json.loads(line)["entry_id"] for line in lines] == ["4-0", "5-0"]


def test_as_csv(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> None:
    """With a header; names are quoted where that is necessary."""
    write(valkey.bytes, 1_767_225_600_250, stream_name='a,"b"')
    (row,) = csv.DictReader(printed(valkey, capsys, "--csv"))
    assert row == {
        "written_at": "2026-01-01T00:00:00.250Z",
        "stream_name": 'a,"b"',
        "ts": "1767225601250.5",
        "hand_count": "0",
        "hand_count_smoothed": "",
        "queue_age": "0.125",
        "backend": "palm",
        "width": "640",
        "height": "480",
        "entry_id": "1767225600250-0",
    }


def test_for_people(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    write(valkey.bytes, 1_767_225_600_250)
    assert printed(valkey, capsys) == ["2026-01-01T00:00:00.250Z  0 hands  cam1  ts 1767225601250.5  0.125 s old"]


def test_a_result_without_a_queue_has_no_age() -> None:
    """The formats don't need one."""
    frame = FrameResult("photo", 0.0, "palm", "litert", 1, 1, Hands.empty(), 0.0, 0.0).to_json()
    assert formatter("text")("0-0", frame) == "1970-01-01T00:00:00.000Z  0 hands  photo  ts 0.0"
    assert formatter("csv")("0-0", frame).count(",") == header("csv").count(",") == len(COLUMNS) - 1


def test_a_name_that_a_spreadsheet_would_compute_is_a_text() -> None:
    """In CSV it has an apostrophe before it; a negative number has none."""
    frame = FrameResult("=1+1", -1.5, "palm", "litert", 1, 1, Hands.empty(), 0.0, 0.0).to_json()
    assert formatter("csv")("0-0", frame).split(",")[1:3] == ["'=1+1", "-1.5"]


def test_new_ones_are_followed(valkey: QueueServer, client: redis.Redis) -> None:
    """Behind those that are kept, and also after Redis was away."""
    write(valkey.bytes, 1)
    reader, done, seen = ResultsReader(client, KEYS), threading.Event(), list[str]()
    reader.skip_kept()
    following = threading.Thread(target=lambda: [seen.append(each.entry_id) for each in reader.follow(done)])
    following.start()
    write(valkey.bytes, 2)
    wait_until(lambda: seen == ["2-0"])
    valkey.kill()
    valkey.restart()
    write(valkey.bytes, 3)
    wait_until(lambda: seen == ["2-0", "3-0"])
    done.set()
    following.join()


@pytest.mark.parametrize(("target", "said"), [("| head -0", False), ("> /dev/full", True)])
def test_output_that_is_lost(valkey: QueueServer, target: str, said: bool) -> None:
    """The exit code is 1. An error is logged, but not if the reader has read enough, as head does."""
    write(valkey.bytes, *range(1, 1201))
    command = f'set -o pipefail; "{sys.executable}" -m worker results --jsonl --redis-url {valkey.url} {target}'
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, "standard output can't be written" in done.stderr) == (1, said)
    assert said or not done.stderr


def test_a_redis_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert main(["results", "--redis-url", "redis://127.0.0.1:1"]) == 1
    assert capsys.readouterr().out == ""


def test_the_documented_viewer_may_read_them(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> None:
    """And what is kept of each stream, and nothing else."""
    page = (REPOSITORY / "docs/redis-acl.md").read_text()
    (command,) = re.findall(r"^ACL SETUSER hand-counter-view .*$", page, re.MULTILINE)
    valkey.bytes.execute_command(*command.split())
    write(valkey.bytes, 1, 2)
    valkey.bytes.hset(KEYS.stream("cam1"), "hand_count", "1")
    url = valkey.url.replace("redis://", "redis://hand-counter-view:SECRET@")
    assert main(["results", "--redis-url", url, "--last", "1", "--jsonl"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    with connect(url) as viewer:
        ResultsReader(viewer, KEYS).skip_kept()
        assert viewer.xread({KEYS.counts: "0-0"})
        assert viewer.hgetall(KEYS.stream("cam1")) == {b"hand_count": b"1"}
        assert viewer.get(KEYS.preview("cam1")) is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            viewer.xlen(KEYS.frames)
    valkey.bytes.execute_command("ACL DELUSER", "hand-counter-view")


def test_two_formats_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A reader could tell neither."""
    with pytest.raises(SystemExit) as end:
        main(["results", "--csv", "--jsonl"])
    assert end.value.code == 2
    assert "not both" in capsys.readouterr().err


def test_results_of_all_partitions_are_merged(valkey: QueueServer, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which they were written; of one stream, its partition is read alone."""
    partitions = Partitions("hand_counter", 4)
    valkey.bytes.set(partitions.number_key, 4)
    for number in range(1, 41):
        name = f"cam{number % 8}"
        fields = {"stream_name": name, "ts": "1", "result": result(number, name)}
        valkey.bytes.xadd(partitions.keys_of(name).counts, fields, id=f"{number}-0")
    ids = [json.loads(line)["entry_id"] for line in printed(valkey, capsys, "--jsonl")]
    assert ids == [f"{number}-0" for number in range(1, 41)]
    ids = [json.loads(line)["entry_id"] for line in printed(valkey, capsys, "--jsonl", "--last", "3")]
    assert ids == ["38-0", "39-0", "40-0"]
    ids = [json.loads(line)["entry_id"] for line in printed(valkey, capsys, "--jsonl", "--stream", "cam3")]
    assert ids == [f"{number}-0" for number in range(3, 41, 8)]


def test_new_results_of_all_partitions_are_followed(valkey: QueueServer) -> None:
    """Behind what is kept."""
    partitions = Partitions("hand_counter", 4)
    with connect(valkey.url) as client:
        reader = MergedResults([ResultsReader(client, keys) for keys in partitions])
        written = {"stream_name": "cam", "result": "{}"}
        client.xadd(partitions.keys(0).counts, written, id="1-0")
        reader.skip_kept()
        done = threading.Event()
        found = reader.follow(done)
        client.xadd(partitions.keys(3).counts, written, id="3-0")
        client.xadd(partitions.keys(0).counts, written, id="2-0")
        assert [next(found).entry_id, next(found).entry_id] == ["2-0", "3-0"]
        client.xadd(partitions.keys(1).counts, written, id="4-0")
        assert next(found).entry_id == "4-0"
        done.set()
        assert not list(found)
