"""The messages that a session still has to send, and the leases that its client holds. No I/O; see session for the wire.

Answers and revocations leave in the order in which they came about. The client handles them in that order, so an answer
from before a revocation can't revive the lease.

A revocation names its streams. If there are too many of them, or if a change concerns all streams, it revokes all
leases at once. So an outbox stays small however many streams change, and no change iterates over the streams of a
session.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

MAX_NAMES_PER_REVOCATION: Final = 4096
"""Asking again is cheaper than naming more."""


class Outbox:
    """Unsent messages, in order."""

    def __init__(self) -> None:
        self.leased: set[str] = set()
        """The streams on which the client holds leases once it has handled all messages."""
        self._unsent: deque[pb.ShouldProcessSessionResponse] = deque()

    def __len__(self) -> int:
        """Returns the number of unsent messages."""
        return len(self._unsent)

    def answer(self, stream_names: Sequence[str], message: pb.ShouldProcessSessionResponse) -> None:
        """Appends answers about streams, which grant a lease on each whose next_ts isn't 0."""
        self.leased.update(itertools.compress(stream_names, message.answers.next_ts))
        self._unsent.append(message)

    def revoke(self, stream_name: str) -> bool:
        """Revokes one lease. Returns whether there was one."""
        if stream_name not in self.leased:
            return False
        self.leased.discard(stream_name)
        revocation = self._last_revocation()
        if len(revocation.stream_names) < MAX_NAMES_PER_REVOCATION:
            revocation.stream_names.append(stream_name)
        else:
            self._extend_to_all(revocation)
        return True

    def revoke_all(self) -> bool:
        """Revokes all leases. Returns whether there were any."""
        if not self.leased:
            return False
        self._extend_to_all(self._last_revocation())
        return True

    def take(self) -> pb.ShouldProcessSessionResponse | None:
        """Removes and returns the message to send next; None if there is none."""
        return self._unsent.popleft() if self._unsent else None

    def _extend_to_all(self, revocation: pb.DroppedLeases) -> None:
        """Makes the last message, a revocation, one of all leases."""
        self.leased = set()
        revocation.all_streams = True
        del revocation.stream_names[:]

    def _last_revocation(self) -> pb.DroppedLeases:
        """Returns the revocation at the end of the queue, a new one if an answer is there."""
        if not self._unsent or not self._unsent[-1].HasField("dropped_leases"):
            self._unsent.append(pb.ShouldProcessSessionResponse(dropped_leases=pb.DroppedLeases()))
        return self._unsent[-1].dropped_leases
