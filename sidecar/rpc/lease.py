"""Who holds leases on which streams, and what still has to be sent to them. No I/O; see session for the wire.

A client may answer by a lease for as long as nobody else changes the stream. So whoever changes a stream tells the
:class:`Holders`: a limit that rose or became 0, a frame that was admitted for somebody else, a stream that was evicted
or that isn't watched in Redis any more. Each session that holds a lease on it gets a drop into its *outbox*, between
the answers, in the order in which things came about; the client takes them in that order, so an answer that is older
than a drop can't revive the lease.

A drop names the streams; where that are many, or a change is for all, it drops all leases at once. So an outbox stays
small whatever happens to however many streams, and no change walks over the streams of a session.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

MAX_NAMES_PER_DROP: Final = 4096
"""More are cheaper to ask about again than to name."""


def revokes(old_fps: float, new_fps: float) -> bool:
    """Whether a change of fps makes leases untrue. A lower one doesn't: what it denies includes what they deny."""
    return new_fps > old_fps or new_fps == 0.0 != old_fps


class Outbox:
    """What still has to be sent in one session, in order, and the leases of its client.

    After the last message that can matter, a client holds no more leases than ``leased`` names.
    """

    def __init__(self) -> None:
        self.leased: set[str] = set()
        self._unsent: deque[pb.ShouldProcessSessionResponse] = deque()

    def __len__(self) -> int:
        """How many messages wait to be sent."""
        return len(self._unsent)

    def answer(self, stream_names: Sequence[str], answers: pb.SessionAnswers) -> None:
        """Puts an answer behind all others; the streams with a next_ts are leased from now on."""
        self.leased.update(itertools.compress(stream_names, answers.next_ts))
        self._unsent.append(pb.ShouldProcessSessionResponse(answers=answers))

    def drop(self, stream_name: str) -> bool:
        """Drops one lease; says whether there was one."""
        if stream_name not in self.leased:
            return False
        self.leased.discard(stream_name)
        last = self._last_drop()
        if len(last.stream_names) < MAX_NAMES_PER_DROP:
            last.stream_names.append(stream_name)
        else:
            self._make_all(last)
        return True

    def drop_all(self) -> bool:
        """Drops all leases; says whether there were any."""
        if not self.leased:
            return False
        self._make_all(self._last_drop())
        return True

    def take(self) -> pb.ShouldProcessSessionResponse | None:
        """Takes out the message that has to be sent next."""
        return self._unsent.popleft() if self._unsent else None

    def _make_all(self, last: pb.DroppedLeases) -> None:
        """Makes the drop at the end of the queue one of all leases."""
        self.leased = set()
        last.all_streams = True
        del last.stream_names[:]

    def _last_drop(self) -> pb.DroppedLeases:
        """The drop at the end of the queue; what follows an answer is a new one."""
        if not self._unsent or not self._unsent[-1].HasField("dropped_leases"):
            self._unsent.append(pb.ShouldProcessSessionResponse(dropped_leases=pb.DroppedLeases()))
        return self._unsent[-1].dropped_leases
