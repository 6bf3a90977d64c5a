"""A frame that Redis lost, refused or didn't answer is published once, all the same."""

import logging
import threading

import pytest
import redis
from support.frame_queue import entries, frame_queue
from support.processes.workers import KEYS, QueueServer
from support.publishing import captured, jpeg
from support.waiting import wait_until

from worker.queue.redis_client import TcpConnection, connect


class LostReplies(TcpConnection):
    """A connection that loses replies to scripts after the server has run them, as a broken network would."""

    lost = 0

    def read_response(self, *args: object, **options: object) -> object:
        reply = super().read_response(*args, **options)
        if reply == 1 and LostReplies.lost < 3:
            LostReplies.lost += 1
            self.disconnect()
            raise redis.ConnectionError("lost")
        return reply


def test_a_lost_reply_causes_no_second_entry(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """A frame whose reply is lost is published again without a second entry; loss and recovery are logged once each."""
    with connect(valkey.url) as client, caplog.at_level(logging.INFO):
        client.connection_pool.connection_class = LostReplies
        queue = frame_queue(client)
        assert all(queue.publish(captured(index)) for index in range(5))
    assert LostReplies.lost == 3
    assert entries(valkey) == [(float(index), jpeg(index)) for index in range(5)]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 3


def test_a_lost_reply_causes_no_second_entry_although_a_worker_was_faster(valkey: QueueServer) -> None:
    """It has settled the frame and deleted its picture before the publisher repeats it."""

    class SettledMeanwhile(TcpConnection):
        """A connection that loses each reply once; the frame is settled before the repetition."""

        lost = 0

        def read_response(self, *args: object, **options: object) -> object:
            reply = super().read_response(*args, **options)
            if reply == 1:
                SettledMeanwhile.lost += 1
                for _, fields in valkey.bytes.xrange(KEYS.frames):
                    valkey.bytes.unlink(fields[b"frame_key"])
                self.disconnect()
                raise redis.ConnectionError("lost")
            return reply

    with connect(valkey.url) as client:
        client.connection_pool.connection_class = SettledMeanwhile
        queue = frame_queue(client)
        assert all(queue.publish(captured(index)) for index in range(3))
    assert SettledMeanwhile.lost == 3
    assert entries(valkey) == [(0.0, None), (1.0, None), (2.0, None)]


def test_nothing_is_lost_while_redis_is_killed_and_started_again(
    valkey: QueueServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing is retried until Redis works again, and logged once."""
    with connect(valkey.url) as client, caplog.at_level(logging.INFO):
        queue = frame_queue(client)
        assert queue.publish(captured(1))
        valkey.kill()
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(2))))
        thread.start()
        wait_until(lambda: caplog.records)
        valkey.restart()
        thread.join()
    assert done == [True]
    assert entries(valkey)[-1] == (2.0, jpeg(2))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_rejection_is_retried_too(valkey: QueueServer) -> None:
    """A key of the wrong type leaves no picture behind; the frame is published once the key is deleted."""
    valkey.bytes.set(KEYS.frames, "not a queue")
    with connect(valkey.url) as client:
        queue, done = frame_queue(client), []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(1))))
        thread.start()
        wait_until(lambda: valkey.bytes.info("commandstats").get("cmdstat_xlen", {}).get("failed_calls", 0) >= 2)
        assert valkey.bytes.keys(KEYS.payload("*")) == []
        valkey.bytes.delete(KEYS.frames)
        thread.join()
    assert done == [True]
    assert entries(valkey) == [(1.0, jpeg(1))]


def refused(valkey: QueueServer, times: int) -> bool:
    """Whether this many XADDs were refused."""
    stats = valkey.bytes.info("commandstats").get("cmdstat_xadd", {})
    return stats.get("rejected_calls", 0) + stats.get("failed_calls", 0) >= times


@pytest.mark.parametrize("refusal", ["permission", "no ids left"])
def test_a_frame_whose_entry_is_refused_is_not_published(
    valkey: QueueServer, caplog: pytest.LogCaptureFixture, refusal: str
) -> None:
    """Its picture doesn't stay either; a repetition publishes both, once Redis accepts the entry."""
    valkey.bytes.execute_command("ACL SETUSER", "limited", "on", ">SECRET", "~*", "+@all")
    if refusal == "permission":
        valkey.bytes.execute_command("ACL SETUSER", "limited", "-xadd")
    else:
        valkey.bytes.xadd(KEYS.frames, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    with connect(valkey.url.replace("redis://", "redis://limited:SECRET@")) as client, caplog.at_level(logging.ERROR):
        queue, done = frame_queue(client), []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(1))))
        thread.start()
        wait_until(lambda: refused(valkey, 4))
        assert done == []
        wait_until(lambda: valkey.bytes.keys(KEYS.payload("*")) == [])
        if refusal == "permission":
            assert valkey.bytes.xlen(KEYS.frames) == 0
            assert [record.missing for record in caplog.records] == ["+xadd"]
            valkey.bytes.execute_command("ACL SETUSER", "limited", "+xadd")
        else:
            valkey.bytes.delete(KEYS.frames)
        thread.join()
    assert done == [True]
    assert entries(valkey) == [(1.0, jpeg(1))]
    valkey.bytes.execute_command("ACL DELUSER", "limited")
