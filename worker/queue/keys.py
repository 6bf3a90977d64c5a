"""Every key that the worker and its publishers use in Redis. Pure.

The braces put them all into one slot of a Redis Cluster, so that a result and its acknowledgement can be one script.

    {hand_counter}:frames       the queue: a Redis stream, read through a consumer group; capped by the publishers
    {hand_counter}:frame:<id>   one encoded picture, with a TTL
    {hand_counter}:counts       the results: a Redis stream, one entry per counted frame; capped
    {hand_counter}:dead         the dead letters: a Redis stream; capped
    {hand_counter}:accounting   a hash: received, counted, skipped:<reason>, dead:<reason>
    {hand_counter}:unread       a hash: dropped, the entries that the cap took before a worker read them; position
"""

from dataclasses import dataclass

DEFAULT_PREFIX = "hand_counter"
CONSUMER_GROUP = "workers"


@dataclass(frozen=True)
class Keys:
    """The keys of one queue and what belongs to it."""

    prefix: str = DEFAULT_PREFIX

    @property
    def frames(self) -> str:
        """The queue."""
        return f"{{{self.prefix}}}:frames"

    @property
    def counts(self) -> str:
        """The results."""
        return f"{{{self.prefix}}}:counts"

    @property
    def dead(self) -> str:
        """The dead letters."""
        return f"{{{self.prefix}}}:dead"

    @property
    def accounting(self) -> str:
        """How every delivery ended, counted."""
        return f"{{{self.prefix}}}:accounting"

    @property
    def unread(self) -> str:
        """What the queue dropped before any worker read it."""
        return f"{{{self.prefix}}}:unread"

    def payload(self, unique: str) -> str:
        """The key of one encoded picture."""
        return f"{{{self.prefix}}}:frame:{unique}"
