"""A worker with sinks: each result reaches all of them, and a sink that is away delays nothing."""

import hashlib
import hmac
import json
import sqlite3
import urllib.request
from pathlib import Path

import pytest
from support.processes.ports import free_port
from support.processes.workers import KEYS, QueueServer, accounting, publish_many, worker
from support.sink_servers import web_hook
from support.waiting import wait_until

FRAMES = 40


@pytest.fixture
def valkey(tmp_path: Path):
    server = QueueServer(tmp_path)
    yield server
    server.close()


def results(valkey: QueueServer) -> list[dict[str, object]]:
    """The results in Redis."""
    return [json.loads(fields[b"result"]) for _, fields in valkey.bytes.xrange(KEYS.counts)]


def test_each_result_reaches_every_sink(valkey: QueueServer, tmp_path: Path) -> None:
    """Once, and the same everywhere; also the last ones before a drained worker ends."""
    publish_many(valkey.bytes, FRAMES, streams=4)
    lines, database, key = tmp_path / "results.jsonl", tmp_path / "results.db", tmp_path / "key"
    key.write_text("KEY\n")
    with web_hook() as hook:
        sinks = (f"jsonl:{lines}", f"http://{hook.address}/hook", f"sql:sqlite:///{database}")
        flags = [word for sink in sinks for word in ("--sink", sink)]
        with worker(valkey, *flags, "--sink-hmac-key-file", str(key), "--drain") as process:
            assert process.wait() == 0, process.log
        posted = [each for request in hook.requests for each in json.loads(request.body)]
        for request in hook.requests:
            signed = f"{request.headers['x-hand-counter-timestamp']}.".encode() + request.body
            digest = hmac.new(b"KEY", signed, hashlib.sha256).hexdigest()
            assert request.headers["x-hand-counter-signature"] == f"sha256={digest}"
    written = results(valkey)
    assert len(written) == FRAMES
    by_id = sorted(written, key=lambda each: str(each["entry_id"]))
    assert sorted(posted, key=lambda each: str(each["entry_id"])) == by_id
    in_file = [json.loads(line) for line in lines.read_text().splitlines()]
    assert sorted(in_file, key=lambda each: str(each["entry_id"])) == by_id
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT entry_id FROM hand_counter_results ORDER BY entry_id").fetchall()
    connection.close()
    assert [entry_id for (entry_id,) in rows] == [each["entry_id"] for each in by_id]


def test_a_sink_that_is_away_delays_nothing_and_is_shown(valkey: QueueServer) -> None:
    """All frames are counted; what the sink didn't get is counted, logged without secrets, and in the metrics."""
    publish_many(valkey.bytes, FRAMES)
    port, url = free_port(), f"http://user:SECRET@127.0.0.1:{free_port()}/SECRET"
    with worker(valkey, "--sink", url, "--http", f"127.0.0.1:{port}") as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted") == FRAMES)

        def scrape() -> list[str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
                return reply.read().decode().splitlines()

        wait_until(lambda: 'hand_counter_sink_up{sink="http"} 0.0' in scrape())
        assert process.terminate() == 0
    assert "results can't be written to a sink" in process.log
    assert f"results={FRAMES}" in process.log
    assert "SECRET" not in process.log


def test_a_sink_that_is_not_valid_is_wrong_usage(valkey: QueueServer) -> None:
    """Before anything starts, and the text isn't repeated."""
    with worker(valkey, "--sink", "kafka:SECRET") as process:
        assert process.wait() == 2
    assert "--sink: expected redis, jsonl:PATH" in process.log
    assert "SECRET" not in process.log
