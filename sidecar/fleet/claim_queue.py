"""Sends claims to Redis: batched while a call is under way, grouped by hash slot, each waited for a bounded time."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from handcounter.pacing.schedule import Pacing
from sidecar.connections.errors import RedisServerError, RejectedError, UnreachableError
from sidecar.connections.link import Link
from sidecar.connections.links import Links
from sidecar.fleet.claim_problems import ClaimProblems
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
"""Steps of the event loop from bytes in the socket to an answer, and one to spare. If this process was busy for too long, the
answer has often arrived by the deadline, and needs only these steps."""


class Script:
    """A Lua script, called by its hash and loaded where the server doesn't have it."""

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
    """The claims of one caller that belong to one group."""

    __slots__ = ("_on_answer", "answered", "claims", "done", "places")

    def __init__(self, claims: list[Claim], places: list[int], on_answer: Callable[[int, Claimed], None]) -> None:
        self.claims = claims
        self.places = places
        """The places of the claims among all that the caller asked about."""
        self.answered = 0
        """How many of the claims, from the first, have an answer."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when there will be no more answers, cancelled when the caller no longer waits for any."""
        self._on_answer = on_answer

    def answer(self, answer: Claimed) -> None:
        """Passes on the answer to the next claim."""
        self._on_answer(self.places[self.answered], answer)
        self.answered += 1


class _Group:
    """Claims that one call may carry."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.waiting: list[_Batch] = []
        self.sender: asyncio.Task[None] | None = None

    def abandon(self, batch: _Batch) -> None:
        """Stops waiting for a batch. If it wasn't sent yet it won't be; otherwise its answers will be late."""
        batch.done.cancel()
        if batch in self.waiting:
            self.waiting.remove(batch)


class ClaimQueue:
    """Claims frames in Redis.

    On a single server one call carries all claims that wait; on a cluster, those of one hash tag. While a call is under
    way, new claims wait for the next one. So the number of calls adapts to the load, and the claims keep their order.

    Args:
        links: the connections to Redis, and how long to wait for an answer.
        pacing: how a slot advances.
        problems: is told of rejected claims.
    """

    def __init__(self, links: Links, pacing: Pacing, problems: ClaimProblems | None = None) -> None:
        self.call_count = 0
        """Calls of the script so far."""
        self._links = links
        self._problems = problems or ClaimProblems()
        self._script = Script(CLAIM_SCRIPT)
        self._constants = packed_constants(pacing)
        self._channel = channel(links.servers.url.db)
        slots = [links.servers.slot(tag_key(tag)) for tag in range(TAG_COUNT)]
        groups = {slot: _Group(slot) for slot in slots}
        self._groups = [groups[slot] for slot in slots]
        self._grouped = len(groups) > 1

    async def claim(self, claims: Sequence[Claim], on_answer: Callable[[int, Claimed], None]) -> list[Missing | None]:
        """Claims frames in their order; see :class:`sidecar.fleet.fleet.Claims`."""
        missing: list[Missing | None] = [Missing.UNREACHABLE] * len(claims)
        waited: list[tuple[_Group, Link, _Batch]] = []
        for group, places in self._by_group(claims):
            link = self._links.holding(group.slot)
            if link is None or not link.in_time:
                continue
            batch = _Batch([claims[place] for place in places], places, on_answer)
            self._put(group, batch)
            waited.append((group, link, batch))
        if not waited:
            return missing
        try:
            _, late = await asyncio.wait([batch.done for _, _, batch in waited], timeout=self._links.in_time_s)
            for _ in range(STEPS_TO_AN_ANSWER if late else 0):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            for group, _, batch in waited:
                group.abandon(batch)
            raise
        for group, link, batch in waited:
            why = Missing.UNREACHABLE
            if not batch.done.done():
                why = Missing.LATE
                link.report_late()
                group.abandon(batch)
            for number, place in enumerate(batch.places):
                missing[place] = None if number < batch.answered else why
        return missing

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
        claimed = [(batch, claim) for batch in batches for claim in batch.claims]
        try:
            # A single caller may have more claims than a call should carry.
            for first in range(0, len(claimed), MOST_CLAIMS_PER_CALL):
                part = claimed[first : first + MOST_CLAIMS_PER_CALL]
                answers = await self._call(group, [claim for _, claim in part])
                for (batch, _), answer in zip(part, answers, strict=True):
                    batch.answer(answer)
        except RedisServerError as error:
            logger.debug("claims failed", extra=error.fields() | {"claims": str(len(claimed))})
        for batch in batches:
            if not batch.done.done():
                batch.done.set_result(None)

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
                    self._problems.record_rejection(link.address, error, len(claims))
                    raise
            else:
                self._problems.record_acceptance(link.address)
                return unpacked_answers(reply)
        raise UnreachableError("no server takes the claims")
