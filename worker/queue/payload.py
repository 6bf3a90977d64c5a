"""What the reply to the question for a picture means."""

import redis
from redis.exceptions import AskError, NoPermissionError

from worker.queue.frame import DeadReason, EntryError
from worker.queue.keys import Keys


def payload_of(keys: Keys, key: bytes, reply: bytes | redis.RedisError | None) -> bytes | EntryError | None:
    """Returns what the reply to a GET means; raises it if the next attempt may succeed.

    Redis rejects the GET of a key elsewhere (in another hash slot, or beyond the user's permissions) for as long as
    it exists, and such an entry must not block those behind it. If it rejects a key next to the queue, then the
    permissions or the cluster are at fault, and that may be repaired.

    Args:
        keys: of the queue.
        key: of the picture, as an entry names it.
        reply: a picture; None if the key doesn't exist (any more); or an error.

    Raises:
        redis.RedisError: the reply.
    """
    if reply is None or isinstance(reply, bytes):
        return reply
    denied = isinstance(reply, NoPermissionError) and "command" not in str(reply)
    elsewhere = denied or isinstance(reply, AskError)
    if str(reply).startswith("WRONGTYPE") or (elsewhere and not keys.is_payload(key)):
        return EntryError(DeadReason.BAD_FRAME_KEY, f"frame_key {key[:64]!r} isn't the key of a picture: {reply}")
    raise reply
