"""Changes the number of partitions of a drained queue.

The partitions may be on different servers, so this is several steps. A key, ``{hand_counter}:repartition``, notes what is under
way, and each step may be repeated: if one fails, the command is run again and does the rest.
"""

from pathlib import Path
from typing import Any

import redis

from worker.queue.connections import Connections
from worker.queue.keys import CONSUMER_GROUP, Keys
from worker.queue.partition_number import PartitionsError, parse_number, read_partitions
from worker.queue.partitions import Partitions

ACTIVE_S = 10.0
"""A consumer that read, or an entry that was added, so recently is a sign of a program that still runs. A worker never goes so
long without reading (see :mod:`worker.queue.news`), nor does a publisher add to its queue later than that without checking the
number (see :data:`worker.queue.partition_number.CHECK_S`)."""

CLOSED_S = 60
"""How long the queue of a partition that is no more refuses entries. A publisher that was about to add one gets an error, looks
at the number again, and says what to do; the entry would be lost otherwise."""

KEPT_S = 86_400
"""How long results and dead letters of partitions that are no more stay under their keys."""

_SCRIPT = Path(__file__).parent / "lua" / "carry.lua"


class UndrainedError(Exception):
    """The queue isn't drained, or is in use."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Repartition:
    """One change of the number of partitions."""

    def __init__(self, connections: Connections, prefix: str, number: int) -> None:
        self._connections = connections
        self._new = Partitions(prefix, number)
        self._number_key = self._new.number_key
        self._note_key = f"{{{prefix}}}:repartition"
        self._common: Any = connections.client(self._number_key)

    def run(self) -> int:
        """Changes the number; returns the one before.

        Raises:
            UndrainedError: the queue isn't drained, or is in use; nothing is changed.
            PartitionsError: another change is under way, or the number in Redis isn't one.
            redis.RedisError: Redis can't be used. The command is to be run again.
        """
        under_way = self._under_way()
        old = under_way or read_partitions(self._common, self._new.prefix)
        if old.number == self._new.number:
            return old.number
        remaining = set(self._new)
        dissolved = [keys for keys in old if keys not in remaining]
        # Those that remain may be in use again, if this is the second attempt.
        if reasons := [reason for keys in (dissolved if under_way else old) for reason in self._obstacles(keys)]:
            raise UndrainedError(reasons)
        self._common.set(self._note_key, f"{old.number} {self._new.number}")
        self._common.set(self._number_key, self._new.number)
        for keys in self._new:
            self._keep(keys)
        for keys in dissolved:
            self._dissolve(keys)
        heir = self._new.keys(0)
        self._client(heir).delete(self._carried(heir))
        self._common.delete(self._note_key)
        return old.number

    def _under_way(self) -> Partitions | None:
        """Returns the partitions that there were, if such a change was begun and not finished."""
        note = self._common.get(self._note_key)
        if note is None:
            return None
        before, _, after = note.partition(b" ")
        if parse_number(after) != self._new.number:
            raise PartitionsError(
                f"a change to {parse_number(after)} partitions is under way: finish it first, by "
                f"hand-counter repartition --partitions {parse_number(after)}"
            )
        return Partitions(self._new.prefix, parse_number(before))

    def _obstacles(self, keys: Keys) -> list[str]:
        """Returns why a partition can't be dissolved."""
        client = self._client(keys)
        if client.type(keys.frames) != b"stream":
            return []
        queue = client.xinfo_stream(keys.frames)
        groups = [group for group in client.xinfo_groups(keys.frames) if group["name"] == CONSUMER_GROUP.encode()]
        if not groups:
            return [f"{keys.frames} has entries that no worker has read: {queue['length']}"] if queue["length"] else []
        reasons = []
        if client.xrange(keys.frames, min=b"(" + groups[0]["last-delivered-id"], count=1):
            reasons.append(f"{keys.frames} has entries that no worker has read")
        if groups[0]["pending"]:
            reasons.append(f"{keys.frames} has entries that aren't settled: {groups[0]['pending']}")
        reasons += [
            f"the worker {consumer['name'].decode(errors='replace')} still reads {keys.frames}"
            for consumer in client.xinfo_consumers(keys.frames, CONSUMER_GROUP)
            if consumer["idle"] < ACTIVE_S * 1000
        ]
        seconds, micros = client.time()
        if 0 <= seconds + micros / 1e6 - int(queue["last-generated-id"].partition(b"-")[0]) / 1000.0 < ACTIVE_S:
            reasons.append(f"an entry was added to {keys.frames} in the last {ACTIVE_S:.0f} s")
        return reasons

    def _dissolve(self, keys: Keys) -> None:
        client, heir = self._client(keys), self._new.keys(0)
        fields = client.hgetall(keys.accounting)
        if fields:
            words = [word for pair in fields.items() for word in pair]
            carry = self._client(heir).register_script(_SCRIPT.read_text())
            carry([heir.accounting, self._carried(heir)], [keys.prefix, *words])
        client.delete(keys.accounting, keys.unread)
        client.set(keys.frames, "this partition is no more", ex=CLOSED_S)
        for each in (keys.counts, keys.dead):
            client.expire(each, KEPT_S)

    def _keep(self, keys: Keys) -> None:
        """Keeps what is in a partition, which may have been one before and been given up less than a day ago."""
        client = self._client(keys)
        if client.type(keys.frames) == b"string":
            client.delete(keys.frames)
        for each in (keys.counts, keys.dead):
            client.persist(each)

    def _client(self, keys: Keys) -> Any:
        client: redis.Redis = self._connections.client(keys.frames)
        return client

    def _carried(self, keys: Keys) -> str:
        return f"{{{keys.prefix}}}:carried"
