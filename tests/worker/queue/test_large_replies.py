"""What is asked of the C library while replies are read."""

import socket
import threading
from pathlib import Path

import pytest
import redis
from support.redis.valkey import valkey
from support.waiting import wait_until

from worker.queue import redis_client
from worker.queue.large_replies import LARGE_BYTES, LargeReplies

APART, AS_BEFORE = (-3, LARGE_BYTES), [(-3, 32 << 20), (-1, 64 << 20)]


class Library:
    """Notes what it is asked for, at a time that a test sets."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.now = 100.0
        self.replies = LargeReplies(
            lambda parameter, value: self.calls.append((parameter, value)),
            lambda pad: self.calls.append(("trim", pad)),
            lambda: self.now,
        )

    def read(self) -> list[object]:
        """Reads a reply; returns what was asked for meanwhile."""
        self.calls = []
        with self.replies.reading():
            pass
        return self.calls


def test_small_replies_change_nothing() -> None:
    """As long as no large one has come, all is left to the C library."""
    library = Library()
    library.replies.note(LARGE_BYTES - 1)
    assert library.read() == []


def test_after_a_large_reply_large_blocks_are_apart_while_replies_are_read() -> None:
    """What the first one left in the heap is given back at the next ones, for a while and not at each of them."""
    library = Library()
    library.replies.note(LARGE_BYTES)
    assert library.read() == [APART, ("trim", 0), *AS_BEFORE]
    assert library.read() == [APART, *AS_BEFORE]
    library.now += 1.0
    assert library.read() == [APART, ("trim", 0), *AS_BEFORE]
    library.now += 10.0
    library.replies.note(LARGE_BYTES)
    assert library.read() == [APART, *AS_BEFORE]


def test_several_threads_read_at_once() -> None:
    """The last one that ends restores how blocks are kept."""
    library = Library()
    library.replies.note(LARGE_BYTES)
    library.now += 11.0
    with library.replies.reading():
        with library.replies.reading():
            pass
        assert library.calls == [APART]
    assert library.calls == [APART, *AS_BEFORE]


def test_another_c_library() -> None:
    """Without these functions nothing is asked for."""
    replies = LargeReplies(None, None)
    replies.note(LARGE_BYTES)
    with replies.reading():
        pass


def test_a_wait_for_a_reply_is_not_a_part_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that keeps up waits nearly always, and other threads decode pictures meanwhile."""
    library = Library()
    library.replies.note(LARGE_BYTES)
    library.now += 11.0
    monkeypatch.setattr(redis_client, "large_replies", library.replies)
    path = tmp_path / "redis.sock"
    with (
        valkey("--unixsocket", str(path)),
        redis_client.connect(f"unix://{path}") as client,
        redis_client.connect(f"unix://{path}") as other,
    ):
        waiting = threading.Thread(target=client.xread, args=({"stream": "$"},), kwargs={"block": 0})
        waiting.start()
        wait_until(lambda: other.info("clients")["blocked_clients"] == 1, "it waits")
        begun, ended = library.calls.count(APART), library.calls.count(AS_BEFORE[0])
        other.xadd("stream", {"field": "value"})
        waiting.join()
    assert begun == ended > 0


def test_a_reply_that_does_not_come_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time-out is that of any reply, and an error is raised."""
    library = Library()
    library.replies.note(LARGE_BYTES)
    monkeypatch.setattr(redis_client, "large_replies", library.replies)
    monkeypatch.setattr(redis_client, "SOCKET_TIMEOUT_S", 0.2)
    waited: list[float | None] = []
    can_read = redis_client.TcpConnection.can_read

    def noted(connection: redis_client.TcpConnection, timeout: float = 0) -> bool:
        waited.append(timeout)
        return can_read(connection, timeout)

    monkeypatch.setattr(redis_client.TcpConnection, "can_read", noted)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        redis_client.connect(f"redis://127.0.0.1:{listener.getsockname()[1]}") as client,
        pytest.raises(redis.TimeoutError),
    ):
        client.ping()
    assert 0.2 in waited
