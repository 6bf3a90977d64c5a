"""The real claim script on a real server, with a clock that only the test advances."""

import contextlib
import re
import socket
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import hiredis
from support.redis.valkey import valkey

from handcounter.pacing.schedule import Pacing, Reason
from sidecar.fleet import claims
from sidecar.fleet.claims import Claim, Claimed, State

CHANNEL: Final = claims.channel(0)

_TIMED = claims.CLAIM_SCRIPT.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
# Published messages are kept, and the replicas get them later.
_SCRIPT = _TIMED.replace("redis.call('PUBLISH',", "redis.call('RPUSH',")
# The answer to a claim without its effects; the server rejects the script if it writes.
_PEEK = "local function ignored() end\n" + re.sub(r"redis\.call\('(SET|PUBLISH)',", "ignored(", _TIMED)
assert _SCRIPT != _TIMED != claims.CLAIM_SCRIPT


class Line:
    """A connection to a Redis that costs little: each history compares hundreds of claims over it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader()

    def call(self, *commands: tuple[bytes | str | int, ...]) -> list[Any]:
        """Sends commands at once and returns their replies. Raises the first error among them."""
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                received = self._socket.recv(1 << 16)
                assert received, "Redis closed the connection"
                self._reader.feed(received)
                continue
            replies.append(reply)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def close(self) -> None:
        """Closes it."""
        self._socket.close()


@contextlib.contextmanager
def line() -> Iterator[Line]:
    """Runs a Redis while the block runs, and yields a connection to it."""
    with tempfile.TemporaryDirectory(prefix="claims-") as folder:
        path = Path(folder) / "redis"
        with valkey("--unixsocket", str(path)), contextlib.closing(Line(path)) as connection:
            yield connection


class Listener(Protocol):
    """A subscriber."""

    subscribed: bool
    news: deque[tuple[str, State]]
    """The messages in transit to it."""


class Server:
    """Redis, with a clock that only the test advances."""

    def __init__(self, line: Line, pacing: Pacing) -> None:
        self._line = line
        _, self._script, self._peek = line.call(("FLUSHALL",), ("SCRIPT", "LOAD", _SCRIPT), ("SCRIPT", "LOAD", _PEEK))
        self._constants = claims.packed_constants(pacing)
        self._now_us = 1_700_000_000_000_000
        self.listeners: list[Listener] = []
        self.limits: dict[str, bytes] = {}
        self.admitted: dict[str, list[tuple[float, float, float]]] = {}
        """The admissions of each stream, in order: real time, ts, fps."""

    @property
    def now(self) -> float:
        """Returns the real time since the beginning, seconds."""
        return (self._now_us - 1_700_000_000_000_000) / 1e6

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self._now_us += round(seconds * 1e6)

    def claim(self, asked: Sequence[Claim]) -> list[Claimed]:
        """Decides; published states are then in transit to each replica."""
        keys, arguments = self._packed(asked)
        reply, messages, _ = self._line.call(
            ("EVALSHA", self._script, len(keys), *keys, *arguments), ("LRANGE", CHANNEL, 0, -1), ("DEL", CHANNEL)
        )
        answers = claims.unpacked_answers(reply)
        for claim, (reason, _) in zip(asked, answers, strict=True):
            if reason is Reason.ADMITTED:
                self.admitted.setdefault(claim.stream_name, []).append((self.now, claim.ts, claim.fps))
        for message in messages:
            for listener in self.listeners:
                if listener.subscribed:
                    listener.news += claims.unpacked_changes(message)
        return answers

    def peek(self, *calls: Sequence[Claim]) -> list[list[Claimed]]:
        """Returns the answers that the claims of each call would get at this moment if it were the only one."""
        packed = map(self._packed, calls)
        replies = self._line.call(
            *(("EVALSHA_RO", self._peek, len(keys), *keys, *arguments) for keys, arguments in packed)
        )
        return [claims.unpacked_answers(reply) for reply in replies]

    def _packed(self, asked: Sequence[Claim]) -> tuple[list[bytes], list[bytes | str]]:
        keys, states, frames = claims.packed_claims(asked)
        seconds, microseconds = divmod(self._now_us, 1_000_000)
        return keys, [self._constants, CHANNEL, states, frames, str(seconds), str(microseconds)]
