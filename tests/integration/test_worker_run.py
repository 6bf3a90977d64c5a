"""The worker as a process, with a real Valkey."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from support.processes.ports import free_port
from support.processes.workers import (
    KEYS,
    POISON,
    RED,
    T0,
    QueueServer,
    accounting,
    balance,
    calls,
    pending,
    picture,
    publish,
    publish_many,
    worker,
)
from support.waiting import wait_until

from worker.queue.frame import encode_entry
from worker.queue.keys import CONSUMER_GROUP
from worker.results import SCHEMA


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """Yields a Valkey of this test, which it may kill."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


def results(valkey: QueueServer) -> list[dict]:
    """Returns all results, each validated against the schema."""
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    found = [json.loads(fields[b"result"]) for _, fields in valkey.bytes.xrange(KEYS.counts)]
    for result in found:
        schema.validate(result)
    return found


def counted_ids(valkey: QueueServer) -> list[str]:
    """Returns the entries of all results."""
    return [json.loads(fields[b"result"])["entry_id"] for _, fields in valkey.bytes.xrange(KEYS.counts)]


def letters(valkey: QueueServer) -> list[dict[str, str]]:
    """Returns all dead letters."""
    entries = valkey.bytes.xrange(KEYS.dead)
    return [{name.decode(): value.decode(errors="replace") for name, value in fields.items()} for _, fields in entries]


def test_skipped_frames_are_never_fetched(valkey: QueueServer) -> None:
    """Of 300 frames limited to a sixth of their rate, 50 are counted, and only their payloads are read."""
    publish_many(valkey.bytes, 300, fps=30.0)
    with worker(valkey, "--drain", "--fps", "5") as process:
        assert process.wait() == 0
    assert accounting(valkey.bytes) == {"received": 300, "counted": 50, "skipped:too_soon": 250}
    assert calls(valkey.bytes, "get") == 50 + 1  # and the check of the permissions
    assert [result["ts"] for result in sorted(results(valkey), key=lambda each: each["ts"])] == [
        pytest.approx(T0 + i / 5) for i in range(50)
    ]


def test_invalid_entries_are_dead_letters_and_the_worker_continues(valkey: QueueServer) -> None:
    """Each kind of invalid entry is dead-lettered with its reason and its fields, and the valid frame after it is counted."""
    frames, client = KEYS.frames, valkey.bytes
    bad = {
        "bad_stream_name": {"ts": "1", "frame": b"x"},
        "bad_ts": {"stream_name": "cam", "ts": "yesterday", "frame": b"x"},
        "no_payload": {"stream_name": "cam", "ts": "1"},
        "undecodable": {"stream_name": "cam", "ts": "2", "frame": picture()[:300]},
    }
    for fields in bad.values():
        client.xadd(frames, fields)
    huge = bytearray(picture())
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    client.xadd(frames, {"stream_name": "cam", "ts": "3", "frame": bytes(huge)})
    client.xadd(frames, {"stream_name": "cam", "ts": "4", "frame_key": "gone"})
    client.rpush("a-list", "x")
    client.xadd(frames, {"stream_name": "cam", "ts": "5", "frame_key": "a-list"})
    publish(client, "cam", 6.0, RED)
    publish(client, "cam", 7.0)
    with worker(valkey, "--drain") as process:
        assert process.wait() == 0
    assert accounting(client) == {
        "received": 9,
        "counted": 1,
        "skipped:payload_expired": 1,
        **{f"dead:{reason}": 1 for reason in (*bad, "bad_frame_key")},
        "dead:undecodable": 2,
        "dead:failed": 1,
    }
    told = {letter["reason"]: letter for letter in letters(valkey)}
    assert told["bad_ts"]["field:ts"] == "yesterday"
    assert "65535x65535" in told["undecodable"]["message"] or "cut short" in told["undecodable"]["message"]
    assert told["failed"]["message"] == "RuntimeError: a red picture"
    assert client.xinfo_consumers(frames, CONSUMER_GROUP) == []


def test_old_frames_are_skipped_and_cost_no_admission(valkey: QueueServer) -> None:
    """Frames older than --max-age are skipped as stale before any decision about them."""
    an_hour_ago = valkey.bytes.time()[0] - 3600
    for i in range(10):
        valkey.bytes.xadd(KEYS.frames, encode_entry("cam0", T0 + i / 30, "gone"), id=f"{an_hour_ago}000-{i}")
    with worker(valkey, "--max-age", "1800", "--fps", "5") as process:
        wait_until(lambda: accounting(valkey.bytes).get("skipped:stale") == 10)
        publish_many(valkey.bytes, 1)
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 1)  # it has the ts of a skipped one
        assert process.terminate() == 0


@pytest.mark.slow
def test_each_entry_is_settled_exactly_once_however_often_the_worker_is_killed(valkey: QueueServer) -> None:
    """However often the worker is killed, at any point, received = counted + skipped + dead, with one result per entry."""
    total = 0
    flags = ("--consumer", "same-pod", "--batch-size", "16", "--fps", "15", "--max-deliveries", "1000")
    for round_ in range(8):
        publish_many(valkey.bytes, 60, streams=3, fps=30.0, name=f"round{round_}-")
        total += 60
        with worker(valkey, *flags, seconds=0.002, gpu=round_ % 2 == 1) as process:
            ended = sum(accounting(valkey.bytes).values())
            wait_until(lambda ended=ended: sum(accounting(valkey.bytes).values()) > ended)
            time.sleep(0.02 * round_)  # at another point of its work each time
            process.kill()
            assert balance(valkey.bytes) == pending(valkey.bytes)
    with worker(valkey, *flags, "--drain") as process:
        assert process.wait() == 0
    fields = accounting(valkey.bytes)
    assert fields["received"] == total
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    ids = {entry_id.decode() for entry_id, _ in valkey.bytes.xrange(KEYS.frames)}
    counted = counted_ids(valkey)
    assert len(counted) == len(set(counted)) == fields["counted"]
    assert set(counted) <= ids


def test_the_deliveries_of_a_dead_worker_are_adopted(valkey: QueueServer) -> None:
    """A worker with another name counts the frames of a killed one, and the dead consumer is removed."""
    publish_many(valkey.bytes, 20)
    with worker(valkey, "--consumer", "first", seconds=600.0) as process:
        wait_until(lambda: pending(valkey.bytes) == 20)
        process.kill()
    with worker(valkey, "--consumer", "second", "--claim-idle", "0.5") as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 20)
        wait_until(
            lambda: [each["name"] for each in valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)] == [b"second"]
        )
        assert process.terminate() == 0
    assert balance(valkey.bytes) == 0


def test_a_slow_worker_keeps_what_it_holds(valkey: QueueServer) -> None:
    """A frame that takes longer than --claim-idle isn't adopted from a live worker."""
    publish_many(valkey.bytes, 2)
    with worker(valkey, "--consumer", "slow", "--claim-idle", "4", seconds=12.0) as slow:
        wait_until(lambda: pending(valkey.bytes) == 2)
        with worker(valkey, "--consumer", "quick", "--claim-idle", "4", "--drain") as quick:
            assert quick.wait() == 0
        assert slow.terminate() == 0
    assert accounting(valkey.bytes) == {"received": 2, "counted": 2}
    assert "counted=0" in quick.log
    assert "counted=2" in slow.log


def test_a_poisonous_frame_is_dead_lettered_and_harms_no_other(valkey: QueueServer) -> None:
    """A frame that kills every worker is dead-lettered after --max-deliveries; all others are counted."""
    for i in range(10):
        publish(valkey.bytes, "cam", T0 + i, POISON if i == 4 else None)
    deaths = 0
    while True:
        with worker(valkey, "--consumer", "same-pod", "--drain", "--max-deliveries", "3") as process:
            if process.wait() == 0:
                break
            deaths += 1
            assert process.process.returncode == -signal.SIGKILL, process.log
        assert deaths < 10
    assert deaths == 3
    assert accounting(valkey.bytes) == {"received": 10, "counted": 9, "dead:failed": 1}
    assert "each time the worker crashed" in letters(valkey)[0]["message"]


def test_an_entry_trimmed_while_it_was_held_is_dead_lettered(valkey: QueueServer) -> None:
    """An entry that the queue dropped while a worker was dead is counted as trimmed, by that worker or another one."""
    for name, flags in (("same", ["--consumer", "first"]), ("other", ["--consumer", "second", "--claim-idle", "0.3"])):
        valkey.bytes.flushall()
        publish_many(valkey.bytes, 5)
        with worker(valkey, "--consumer", "first", seconds=600.0) as process:
            wait_until(lambda: pending(valkey.bytes) == 5)
            process.kill()
        valkey.bytes.xtrim(KEYS.frames, maxlen=2, approximate=False)
        with worker(valkey, *flags, "--drain") as process:
            assert process.wait() == 0
        assert accounting(valkey.bytes) == {"received": 5, "counted": 2, "dead:trimmed": 3}, name
        assert [letter["reason"] for letter in letters(valkey)] == ["trimmed"] * 3


def test_the_worker_continues_after_flushall(valkey: QueueServer) -> None:
    """After a FLUSHALL the consumer group is created again, and new frames are counted."""
    with worker(valkey) as process:
        publish_many(valkey.bytes, 5)
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 5)
        valkey.bytes.flushall()
        publish_many(valkey.bytes, 7, name="another")
        wait_until(lambda: accounting(valkey.bytes) == {"received": 7, "counted": 7})
        assert process.terminate() == 0
    assert process.log.count("created the consumer group") == 2


def test_a_destroyed_group_counts_nothing_twice(valkey: QueueServer) -> None:
    """After an XGROUP DESTROY under load no frame is counted twice, and what was in progress is counted as lost."""
    publish_many(valkey.bytes, 300)
    with worker(valkey, "--batch-size", "32", "--claim-idle", "1", seconds=0.005) as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > 60)
        valkey.bytes.xgroup_destroy(KEYS.frames, CONSUMER_GROUP)
        wait_until(lambda: sum(accounting(valkey.bytes).values()) == 600)
        assert process.terminate() == 0
    fields = accounting(valkey.bytes)
    assert set(fields) == {"received", "counted", "dead:lost"}
    assert fields["received"] == 300
    assert fields["dead:lost"] > 0
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    counted = counted_ids(valkey)
    assert len(counted) == len(set(counted)) == fields["counted"]


def test_redis_killed_and_restarted_loses_nothing(valkey: QueueServer) -> None:
    """While Redis is unreachable the worker waits and logs it once; afterwards every frame is settled exactly once."""
    publish_many(valkey.bytes, 200)
    with worker(valkey, "--batch-size", "16", seconds=0.01) as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > 20)
        valkey.kill()
        wait_until(lambda: "Redis is unreachable" in process.log)
        valkey.restart()
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 200)
        assert process.terminate() == 0
    assert accounting(valkey.bytes) == {"received": 200, "counted": 200}
    assert len(set(counted_ids(valkey))) == 200
    assert process.log.count("Redis is unreachable") == process.log.count("Redis works again") == 1


@pytest.mark.slow
def test_redis_frozen_and_thawed_loses_nothing(valkey: QueueServer) -> None:
    """A Redis that stops answering during a script costs no frame either."""
    publish_many(valkey.bytes, 200)
    with worker(valkey, "--batch-size", "16", seconds=0.01) as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted", 0) > 20)
        valkey.pause()
        wait_until(lambda: "Redis is unreachable" in process.log)
        valkey.resume()
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 200)
        assert process.terminate() == 0
    assert accounting(valkey.bytes) == {"received": 200, "counted": 200}


def test_it_waits_for_a_redis_that_starts_later(valkey: QueueServer) -> None:
    """A worker that starts before Redis continues as soon as Redis is reachable."""
    valkey.kill()
    with worker(valkey) as process:
        wait_until(lambda: "Redis is unreachable" in process.log)
        valkey.restart()
        publish_many(valkey.bytes, 3)
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 3)
        assert process.terminate() == 0


@pytest.mark.parametrize("gpu", [False, True], ids=["one at a time", "batches"])
def test_sigterm_finishes_frames_in_progress(valkey: QueueServer, gpu: bool) -> None:
    """Frames whose turn has come are counted and settled; the others are released at once."""
    publish_many(valkey.bytes, 50)
    with worker(valkey, "--consumer", "first", "--grace", "20", seconds=0.3, gpu=gpu) as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted", 0) >= 2)
        assert process.terminate() == 0
    left = pending(valkey.bytes)
    assert 0 < left < 50
    assert accounting(valkey.bytes) == {"received": 50, "counted": 50 - left}
    assert f"some deliveries were not settled and will be delivered again entries={left}" in process.log
    with worker(valkey, "--consumer", "second", "--claim-idle", "3600", "--drain") as process:
        assert process.wait() == 0
    assert accounting(valkey.bytes) == {"received": 50, "counted": 50}


@pytest.mark.parametrize("gpu", [False, True], ids=["one at a time", "batches"])
def test_sigterm_gives_up_after_the_grace_period(valkey: QueueServer, gpu: bool) -> None:
    """A frame that takes forever doesn't prevent the worker from stopping; it is delivered again."""
    publish_many(valkey.bytes, 2)
    with worker(valkey, "--grace", "0.5", seconds=600.0, gpu=gpu) as process:
        wait_until(lambda: pending(valkey.bytes) == 2)
        assert process.terminate() == 0
    assert balance(valkey.bytes) == pending(valkey.bytes) == 2


def test_a_second_signal_ends_it_at_once(valkey: QueueServer) -> None:
    """A second SIGTERM ends the grace period."""
    publish_many(valkey.bytes, 2)
    with worker(valkey, "--grace", "3600", seconds=600.0) as process:
        wait_until(lambda: pending(valkey.bytes) == 2)
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "a second signal exits at once" in process.log)  # two signals at once would count as one
        process.process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


def test_metrics_and_health(valkey: QueueServer) -> None:
    """/metrics counts settled deliveries, and /healthz is 503 while Redis is unreachable."""
    port = free_port()
    publish_many(valkey.bytes, 30)
    with worker(valkey, "--http", f"127.0.0.1:{port}", "--fps", "5") as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 5)

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        wait_until(lambda: "hand_counter_counted_total 5.0" in get("/metrics")[1])
        page = get("/metrics")[1]
        assert 'hand_counter_skipped_total{reason="too_soon"} 25.0' in page
        assert 'hand_counter_decisions_total{by="local"} 30.0' in page
        assert 'hand_counter_decisions_total{by="lease"} 0.0' in page
        assert "_created" not in page
        assert "hand_counter_sidecar_up 0.0" in page
        assert "hand_counter_redis_up 1.0" in page
        status, details = get("/healthz")
        assert status == 200
        assert json.loads(details)["sidecar"] == "unreachable"
        valkey.kill()
        wait_until(lambda: get("/healthz")[0] == 503)
        assert process.terminate() == 0


def test_a_taken_port_is_one_clear_line(valkey: QueueServer) -> None:
    """A worker that can't listen exits with 1 and one line about it."""
    with worker(valkey, "--http", f"127.0.0.1:{valkey.port}") as process:
        assert process.wait() == 1
    assert f"can't listen on --http; port 0 takes a free one address=127.0.0.1:{valkey.port}" in process.log
    assert "Traceback" not in process.log
