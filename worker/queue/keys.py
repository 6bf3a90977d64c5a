"""Every key that the worker and the publishers use in Redis. Pure.

The braces put all keys of a queue into one slot of a Redis Cluster, so that one script can write a result and
acknowledge its entry.

    {hand_counter}:frames       the queue: a Redis stream, read through a consumer group; capped by the publishers
    {hand_counter}:frame:<id>   one encoded picture, with a TTL; deleted when its frame is settled
    {hand_counter}:frame:<run>  the number of the last frame of a publisher, by which a repetition is recognised
    {hand_counter}:counts       the results: a Redis stream, one entry per counted frame; capped
    {hand_counter}:dead         the dead letters: a Redis stream; capped
    {hand_counter}:accounting   a hash: received, counted, skipped:<reason>, dead:<reason>
    {hand_counter}:stream:<name>   a hash: the stream's last result, totals and rates; with a TTL
    {hand_counter}:preview:<name>  the last annotated picture, a JPEG; with a TTL
    {hand_counter}:camera:<name>   a hash: the state of the stream's camera, as its publisher sees it; with a TTL
    {hand_counter}:unread       a hash: dropped, the entries that the cap dropped before a worker read them; position;
                                last_id, behind which a consumer group that was destroyed is created again
    {hand_counter}:partitions   the number of partitions, a string; without it there is one

docs/reference/redis-keys.md has this list.
"""

import functools
from dataclasses import dataclass

DEFAULT_PREFIX = "hand_counter"
CONSUMER_GROUP = "workers"


@dataclass(frozen=True)
class Keys:
    """The keys of one queue and of what belongs to it."""

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
        """The counters of received and settled deliveries."""
        return f"{{{self.prefix}}}:accounting"

    @property
    def unread(self) -> str:
        """How many entries the queue dropped before any worker read them."""
        return f"{{{self.prefix}}}:unread"

    def payload(self, unique: str) -> str:
        """Returns the key of one encoded picture."""
        return f"{{{self.prefix}}}:frame:{unique}"

    def is_payload(self, key: bytes) -> bool:
        """Returns whether a key is one of this queue's pictures. An entry may name any key; only these may be deleted."""
        return key.startswith(self._payload_prefix) and key != self._payload_prefix

    def stream(self, stream_name: str) -> str:
        """Returns the key of what is kept of a stream."""
        return f"{{{self.prefix}}}:stream:{stream_name}"

    def preview(self, stream_name: str) -> str:
        """Returns the key of a stream's last annotated picture."""
        return f"{{{self.prefix}}}:preview:{stream_name}"

    def camera(self, stream_name: str) -> str:
        """Returns the key of what the publisher of a stream says about its camera."""
        return f"{{{self.prefix}}}:camera:{stream_name}"

    @functools.cached_property
    def _payload_prefix(self) -> bytes:
        return self.payload("").encode()
