"""The real claim script on a real server, with a clock that only the test advances."""

import re
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import redis

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


class Listener(Protocol):
    """A subscriber."""

    subscribed: bool
    news: deque[tuple[str, State]]
    """The messages in transit to it."""


class Server:
    """Redis, with a clock that only the test advances."""

    def __init__(self, client: redis.Redis, pacing: Pacing) -> None:
        client.flushall()
        self._client = client
        self._script, self._peek = client.script_load(_SCRIPT), client.script_load(_PEEK)
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
        reply, messages, _ = (
            self._client.pipeline(transaction=False)
            .evalsha(self._script, len(keys), *keys, *arguments)
            .lrange(CHANNEL, 0, -1)
            .delete(CHANNEL)
            .execute()
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

    def peek(self, asked: Sequence[Claim]) -> list[Claimed]:
        """Returns the answers that these claims would get at this moment."""
        keys, arguments = self._packed(asked)
        return claims.unpacked_answers(self._client.evalsha_ro(self._peek, len(keys), *keys, *arguments))

    def _packed(self, asked: Sequence[Claim]) -> tuple[list[bytes], list[bytes | str]]:
        keys, states, frames = claims.packed_claims(asked)
        seconds, microseconds = divmod(self._now_us, 1_000_000)
        return keys, [self._constants, CHANNEL, states, frames, str(seconds), str(microseconds)]
