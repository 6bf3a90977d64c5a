"""Sends claims to Redis: batched while a call is under way, grouped by slot, and never waited for too long."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from handcounter.pacing.schedule import Pacing
from sidecar.connections.errors import RedisServerError, RejectedError, UnreachableError
from sidecar.connections.link import Link
from sidecar.connections.links import Links
from sidecar.fleet.claims import (
    CLAIM_SCRIPT,
    MOST_CLAIMS_PER_CALL,
    TAG_COUNT,
    Claim,
    Claimed,
    Missing,
    channel,
    packed_claims,
    packed_constants,
    tag_key,
    tag_of,
    unpacked_answers,
)

logger = logging.getLogger(__name__)

MOST_REDIRECTIONS = 3

STEPS_TO_AN_ANSWER = 6
"""Turns of the event loop from bytes in the socket to an answer, and one to spare. If this process was busy for too
long, the answer is often there already when the time is up, and needs only these."""


class Script:
    """A Lua script, called by its hash; the server is taught it where it doesn't know it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def call(self, link: Link, keys: Sequence[bytes | str], *arguments: bytes | str, asking: bool = False) -> Any:
        """Runs it and returns its answer; raises RedisServerError."""
        try:
            return await link.call("EVALSHA", self._hash, len(keys), *keys, *arguments, asking=asking)
        except RejectedError as error:
            if error.code != "NOSCRIPT":
                raise
        return await link.call("EVAL", self._text, len(keys), *keys, *arguments, asking=asking)


class _Batch:
    """Claims of one caller for one group, and their answers, as many as Redis gave."""

    __slots__ = ("answers", "claims")

    def __init__(self, claims: list[Claim]) -> None:
        self.claims = claims
        self.answers: asyncio.Future[list[Claimed]] = asyncio.get_running_loop().create_future()


class _Group:
    """Claims that one call may carry."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.waiting: list[_Batch] = []
        self.sender: asyncio.Task[None] | None = None

    def give_up(self, batch: _Batch) -> None:
        """Nobody waits for a batch any more: it isn't sent, and if it was, its answers are late."""
        batch.answers.cancel()
        if batch in self.waiting:
            self.waiting.remove(batch)


class ClaimQueue:
    """Claims frames in Redis.

    On a plain server one call carries all claims that wait; on a cluster, those of one hash tag. While a call is under
    way, new claims wait for the next one; so the number of calls adapts to the load and their order is kept.
    """

    def __init__(self, links: Links, pacing: Pacing, on_answer: Callable[[Claim, Claimed, bool], None]) -> None:
        """Calls on_answer for each answer as it arrives, with whether it is too late: nobody waits for it any more."""
        self._links = links
        self._on_answer = on_answer
        self._script = Script(CLAIM_SCRIPT)
        self._constants = packed_constants(pacing)
        self._channel = channel(links.servers.url.db)
        slots = [links.servers.slot(tag_key(tag)) for tag in range(TAG_COUNT)]
        groups = {slot: _Group(slot) for slot in slots}
        self._groups = [groups[slot] for slot in slots]
        self._grouped = len(groups) > 1
        self.call_count = 0
        """Calls of the script so far."""

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | Missing]:
        """Decides frames in Redis, in their order; what it doesn't decide in time is for the caller to decide."""
        answers: list[Claimed | Missing] = [Missing.AWAY] * len(claims)
        waited: list[tuple[_Group, Link, _Batch, list[int]]] = []
        for group, places in self._by_group(claims):
            link = self._links.holding(group.slot)
            if link is None or not link.in_time:
                continue
            batch = _Batch([claims[place] for place in places])
            self._put(group, batch)
            waited.append((group, link, batch, places))
        if not waited:
            return answers
        answered = [batch.answers for _, _, batch, _ in waited]
        try:
            _, late = await asyncio.wait(answered, timeout=self._links.in_time_s)
            for _ in range(STEPS_TO_AN_ANSWER if late else 0):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            for group, _, batch, _ in waited:
                group.give_up(batch)
            raise
        for group, link, batch, places in waited:
            if not batch.answers.done():
                link.report_late()
                group.give_up(batch)
                for place in places:
                    answers[place] = Missing.LATE
                continue
            for place, answer in zip(places, batch.answers.result(), strict=False):
                answers[place] = answer
        return answers

    def _by_group(self, claims: Sequence[Claim]) -> list[tuple[_Group, list[int]]]:
        if not self._grouped:
            return [(self._groups[0], list(range(len(claims))))]
        places: dict[_Group, list[int]] = {}
        for place, claim in enumerate(claims):
            places.setdefault(self._groups[tag_of(claim.stream_name)], []).append(place)
        return list(places.items())

    def _put(self, group: _Group, batch: _Batch) -> None:
        group.waiting.append(batch)
        if group.sender is None:
            group.sender = asyncio.create_task(self._send_all(group), name=f"claims of slot {group.slot}")

    async def _send_all(self, group: _Group) -> None:
        try:
            while group.waiting:
                batches = [group.waiting.pop(0)]
                size = len(batches[0].claims)
                while group.waiting and size + len(group.waiting[0].claims) <= MOST_CLAIMS_PER_CALL:
                    batches.append(group.waiting.pop(0))
                    size += len(batches[-1].claims)
                await self._send(group, batches)
        finally:
            group.sender = None

    async def _send(self, group: _Group, batches: list[_Batch]) -> None:
        waiting = [(claim, batch) for batch in batches for claim in batch.claims]
        answers: list[Claimed] = []
        try:
            # One caller may bring more than a call should carry.
            for first in range(0, len(waiting), MOST_CLAIMS_PER_CALL):
                part = waiting[first : first + MOST_CLAIMS_PER_CALL]
                answers += await self._call(group, [claim for claim, _ in part])
                for (claim, batch), answer in zip(part, answers[first:], strict=True):
                    self._on_answer(claim, answer, batch.answers.done())
        except RedisServerError as error:
            logger.debug("a claim failed", extra=error.fields())
        first = 0
        for batch in batches:
            last = first + len(batch.claims)
            if not batch.answers.done():
                batch.answers.set_result(answers[first:last])
            first = last

    async def _call(self, group: _Group, claims: list[Claim]) -> list[Claimed]:
        keys, states, frames = packed_claims(claims)
        link, asking = self._links.holding(group.slot), False
        for _ in range(MOST_REDIRECTIONS):
            if link is None:
                break
            self.call_count += 1
            try:
                reply = await self._script.call(
                    link, keys, self._constants, self._channel, states, frames, asking=asking
                )
            except RejectedError as error:
                if error.code == "MOVED" and error.redirect:
                    link, asking = self._links.follow_move(group.slot, error.redirect), False
                elif error.code == "ASK" and error.redirect:
                    link, asking = self._links.to(error.redirect), True
                elif error.code != "TRYAGAIN":
                    raise
            else:
                return unpacked_answers(reply)
        raise UnreachableError("no server takes the claim")
