"""Who holds leases on which streams, and which changes revoke them. Pure.

A lease allows a client to deny frames of a stream without asking. It is valid as long as the client's own questions are
all that changes the stream. These changes revoke it: the limit is raised or set to 0, a frame of another client is
admitted, the schedule is evicted, or the limit isn't watched any more (docs/decisions/0008-when-leases-end.md).

The book is built first and passed to all parts that cause such changes: the fps table, the roster, the deciders. They
report changes to the book, and the book passes them to the holders, which are the open sessions. Neither side knows the
other.

While no session is open, ``holders`` is empty. Code on a hot path checks that before it reports a change, so a change
costs nothing then.
"""

from collections.abc import Container
from typing import Protocol


class LeaseHolder(Protocol):
    """A client with leases, as the book sees it; see :class:`sidecar.rpc.session.Session`."""

    @property
    def leased(self) -> Container[str]:
        """The streams on which the client holds leases."""

    def revoke(self, stream_name: str) -> None:
        """Revokes the lease on a stream that is in ``leased``."""

    def revoke_all(self) -> None:
        """Revokes all leases, if there are any."""


class LeaseBook:
    """All holders of leases. Watches the fps table (see :class:`sidecar.limits.table.LimitWatcher`)."""

    def __init__(self) -> None:
        self.holders: list[LeaseHolder] = []
        """Those with an open session. Other objects read it; only ``open`` and ``close`` change it."""

    def open(self, holder: LeaseHolder) -> None:
        """Reports changes to a holder from now on."""
        self.holders.append(holder)

    def close(self, holder: LeaseHolder) -> bool:
        """Reports no more changes to a holder. Returns whether it was open."""
        if holder not in self.holders:
            return False
        self.holders.remove(holder)
        return True

    def has_lease(self, stream_name: str) -> bool:
        """Returns whether any client holds a lease on a stream."""
        return any(stream_name in holder.leased for holder in self.holders)

    def revoke(self, stream_name: str) -> None:
        """Revokes all leases on a stream."""
        for holder in self.holders:
            if stream_name in holder.leased:
                holder.revoke(stream_name)

    def revoke_all(self) -> None:
        """Revokes all leases on all streams."""
        for holder in self.holders:
            holder.revoke_all()

    def limit_changed(self, stream_name: str, old_fps: float, new_fps: float) -> None:
        """Revokes the leases on a stream if its new limit invalidates them."""
        if invalidates_leases(old_fps, new_fps):
            self.revoke(stream_name)

    def fallback_changed(self, old_fps: float, new_fps: float) -> None:
        """Revokes all leases if the new fallback invalidates them.

        That includes the leases of streams with an override: finding the others would take longer than asking again.
        """
        if invalidates_leases(old_fps, new_fps):
            self.revoke_all()


def invalidates_leases(old_fps: float, new_fps: float) -> bool:
    """Returns whether a change of fps invalidates leases.

    A lower fps doesn't, since it denies whatever the higher one did. A pause does, since it denies for another reason.
    """
    return new_fps > old_fps or new_fps == 0.0 != old_fps
