"""How much memory large replies take, and what they leave behind."""

import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis._parsers import Encoder
from support.redis.valkey import valkey
from support.waiting import wait_until

from worker.queue import reply_parser
from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.keys import Keys
from worker.queue.large_replies import LARGE_BYTES, LargeReplies
from worker.queue.redis_client import connect
from worker.queue.reply_parser import BEGINNING_ONLY, NOT_KEPT, ReplyParser

APART, AS_BEFORE = (-3, LARGE_BYTES), [(-3, 32 << 20), (-1, 64 << 20)]
KEYS = Keys()
SIZE = 33 << 20
"""Of a picture; glibc never keeps such a block in its heap."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the C library is asked for."""
    calls: list[object] = []
    replies = LargeReplies(lambda parameter, value: calls.append((parameter, value)))
    monkeypatch.setattr(reply_parser, "large_replies", replies)
    return calls


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey."""
    path = tmp_path_factory.mktemp("valkey") / "redis.sock"
    with valkey("--unixsocket", str(path)):
        yield f"unix://{path}"


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    """A client of the queue's Redis, which is empty."""
    with connect(url) as client:
        client.flushall()
        yield client


def resident() -> int:
    """Returns the memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("size", "calls"), [(LARGE_BYTES - 100, []), (LARGE_BYTES + 1, [APART, *AS_BEFORE])])
def test_only_large_replies_are_apart(client: redis.Redis, asked: list[object], size: int, calls: list[object]) -> None:
    """The first one as well as those that follow."""
    client.xadd("stream", {"frame": bytes(size)})
    for _ in range(2):
        asked.clear()
        assert client.xrange("stream")[0][1] == {b"frame": bytes(size)}
        assert asked == calls


def test_a_picture_under_a_key_is_not_apart(client: redis.Redis, asked: list[object]) -> None:
    """The heap keeps its memory for the next one, as that of decoded pictures."""
    client.set("picture", bytes(3 * LARGE_BYTES))
    assert client.get("picture") == bytes(3 * LARGE_BYTES)
    assert asked == []


def test_a_wait_for_a_reply_is_not_a_part_of_it(url: str, client: redis.Redis, asked: list[object]) -> None:
    """A worker that keeps up waits nearly always, and other threads decode pictures meanwhile."""
    for blocked in (True, False):
        waiting = threading.Thread(target=client.xread, args=({"stream": "$"},), kwargs={"block": 0})
        waiting.start()
        with connect(url) as other:
            wait_until(lambda: other.info("clients")["blocked_clients"] == 1, "it waits")
            assert asked == []
            other.xadd("stream", {"field": bytes(2 * LARGE_BYTES) if blocked else b"small"})
        waiting.join()
        assert asked == ([APART, *AS_BEFORE] if blocked else [])
        asked.clear()


def test_a_reply_that_breaks_off_ends_too(asked: list[object]) -> None:
    """Whatever was read of it is gone with the connection."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"*1\r\n$%d\r\n" % (3 * LARGE_BYTES) + bytes(2 * LARGE_BYTES))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve).start()
        with (
            connect(f"redis://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(redis.ConnectionError),
        ):
            client.xrange("stream")
    assert asked == [APART, *AS_BEFORE]


def test_replies_of_several_commands(client: redis.Redis, asked: list[object]) -> None:
    """What has come of the next reply isn't lost with the buffer of a large one."""
    sizes = [2 * LARGE_BYTES, 10, 3 * LARGE_BYTES, 0, 100_000, 2 * LARGE_BYTES]
    pipeline = client.pipeline(transaction=False)
    for number, size in enumerate(sizes):
        pipeline.xadd(f"stream{number}", {"frame": bytes(size)})
    pipeline.execute()
    for number in range(len(sizes)):
        pipeline.xrange(f"stream{number}")
    asked.clear()
    assert [len(entries[0][1][b"frame"]) for entries in pipeline.execute()] == sizes
    assert asked.count(APART) == asked.count(AS_BEFORE[0]) == 3


def test_a_connection_that_is_not_used_next_keeps_no_buffer(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two reads other threads use other connections, so the next read may use one of those."""
    queue = Queue(Commands(client, KEYS), "me")
    for number in range(2):
        client.xadd(KEYS.frames, {"stream_name": "cam", "ts": number, "frame": bytes(SIZE)})
    pool = client.connection_pool
    release = pool.release

    def release_before_another(connection: redis.Connection) -> None:
        release(connection)
        for each in [pool.get_connection(), pool.get_connection()]:
            release(each)

    monkeypatch.setattr(pool, "release", release_before_another)
    before = resident()
    held = queue.read(1) + queue.read(1)
    assert [len(each.fields[b"frame"]) for each in held] == [SIZE, SIZE]
    assert resident() - before < 2.5 * SIZE


@pytest.mark.parametrize("size", [10, 999_999, 1_000_000, 2 * LARGE_BYTES])
def test_of_a_reply_only_the_beginning(client: redis.Redis, size: int) -> None:
    """A large one isn't kept, and the connection goes on with what follows."""
    client.xadd("stream", {"frame": bytes(size)})
    for _ in range(2):
        reply = client.execute_command("XREAD", "COUNT", 1, "STREAMS", "stream", "0", **BEGINNING_ONLY)
        assert reply == NOT_KEPT if size >= 1_000_000 else len(reply[0][1][0][1][b"frame"]) == size
        assert client.xrange("stream")[0][1] == {b"frame": bytes(size)}
    assert not client.execute_command("XREAD", "COUNT", 1, "STREAMS", "stream", "$", **BEGINNING_ONLY)
    with pytest.raises(redis.ResponseError, match="Invalid stream ID"):
        client.execute_command("XREAD", "STREAMS", "stream", "none", **BEGINNING_ONLY)
    assert len(client.connection_pool._available_connections) == 1


def test_a_passing_reply_that_breaks_off_is_an_error() -> None:
    """The next command uses another connection."""

    def serve() -> None:
        for answer in (b"*1\r\n$%d\r\n" % LARGE_BYTES + bytes(200_000), b"*0\r\n"):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve).start()
        with connect(f"redis://127.0.0.1:{listener.getsockname()[1]}") as client:
            with pytest.raises(redis.ConnectionError):
                client.execute_command("XREAD", "STREAMS", "stream", "0", **BEGINNING_ONLY)
            assert client.xrange("stream") == []


class Disconnected:
    """A connection whose next reply has come when another thread disconnects it, as at the end of a worker."""

    socket_timeout = None
    encoder = Encoder("utf-8", "strict", decode_responses=False)

    def __init__(self) -> None:
        self._sock = self
        self.parser = ReplyParser(1000)
        self.parser.on_connect(self)

    def recv_into(self, buffer: bytearray) -> int:
        """Delivers the reply."""
        self.parser.on_disconnect()
        buffer[:5] = b"+OK\r\n"
        return 5


def test_a_reply_to_a_connection_that_is_closed_meanwhile() -> None:
    """It is a reply like others, and what follows says that the connection is closed."""
    parser = Disconnected().parser
    assert parser.read_response(disable_decoding=True) == b"OK"
    with pytest.raises(redis.ConnectionError):
        parser.read_response()


def test_waiting_keeps_no_entry(client: redis.Redis, asked: list[object]) -> None:
    """However many threads wait beside the one that reads, each on its partition: none of them needs memory for an entry."""
    queue = Queue(Commands(client, KEYS), "me")
    client.xadd(KEYS.frames, {"stream_name": "cam", "ts": 0, "frame": bytes(SIZE)})
    tracemalloc.start()
    try:
        assert queue.wait(60.0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < LARGE_BYTES  # what Python has; and hiredis' buffer never was large
    assert asked == []
