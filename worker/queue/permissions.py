"""Finds out at the start which permissions the Redis user lacks, by trying each command in a way that changes nothing.

Redis checks permissions before it looks at a command's arguments, so arguments that it rejects or that name nothing are
enough. ACL DRYRUN would need a permission that lets a user look into others, and Redis 7.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import redis

from worker.queue.keys import CONSUMER_GROUP, Keys
from worker.queue.partitions import Partitions

logger = logging.getLogger(__name__)

_NO_ID = "none"
"""Where an entry's id belongs; isn't one."""


class Probe(NamedTuple):
    """A command that needs a permission and changes nothing."""

    permission: str
    """The rule that grants it, without the plus sign."""
    words: tuple[str, ...]
    key: str = ""
    """The key that it uses."""


def worker_probes(keys: Keys) -> list[Probe]:
    """Returns a probe for each permission that the worker needs."""
    frames, payload, group = keys.frames, keys.payload(""), CONSUMER_GROUP
    stream, preview = keys.stream(""), keys.preview("")
    return [
        *_scripts(),
        Probe("get", ("GET", payload), payload),
        Probe("unlink", ("UNLINK", payload), payload),
        Probe("set", ("SET", preview, "", "NONE"), preview),
        Probe("hset", ("HSET", stream, "", "", ""), stream),
        Probe("hincrby", ("HINCRBY", stream, "received", "none"), stream),
        Probe("expire", ("EXPIRE", stream, "none"), stream),
        Probe("hdel", ("HDEL", keys.unread, ""), keys.unread),
        Probe("xread", ("XREAD", "STREAMS", frames, _NO_ID), frames),
        Probe("xpending", ("XPENDING", frames, group), frames),
        Probe("xgroup|create", ("XGROUP CREATE", frames, group, _NO_ID), frames),
        Probe("xgroup|delconsumer", ("XGROUP DELCONSUMER", frames, "", ""), frames),
        Probe("xgroup|setid", ("XGROUP SETID", frames, group, _NO_ID), frames),
        Probe("time", ("TIME",)),
        Probe("exists", ("EXISTS", frames), frames),
        Probe("hget", ("HGET", keys.unread, ""), keys.unread),
        Probe("hset", ("HSET", keys.unread, "", "", ""), keys.unread),
        Probe("hincrby", ("HINCRBY", keys.accounting, "received", "none"), keys.accounting),
        Probe("xack", ("XACK", frames, group, "0-0"), frames),
        Probe("xadd", ("XADD", keys.counts, "0-0", "", ""), keys.counts),
        Probe("xadd", ("XADD", keys.dead, "0-0", "", ""), keys.dead),
        Probe("xclaim", ("XCLAIM", frames, group, "", "0", _NO_ID), frames),
        Probe("xinfo|consumers", ("XINFO CONSUMERS", frames, ""), frames),
        Probe("xinfo|groups", ("XINFO GROUPS", frames), frames),
        Probe("xinfo|stream", ("XINFO STREAM", frames, "none"), frames),  # else the reply would have two entries
        Probe("xlen", ("XLEN", keys.counts), keys.counts),
        Probe("xrange", ("XRANGE", frames, "0-0", "0-0"), frames),
        Probe("xreadgroup", ("XREADGROUP", "GROUP", group, "", "STREAMS", frames, _NO_ID), frames),
    ]


def publisher_probes(keys: Keys, partitions: Partitions) -> list[Probe]:
    """Returns a probe for each permission that a publisher needs, on the server of one of its partitions."""
    number = partitions.number_key
    payload, camera = keys.payload(""), keys.camera("")
    return [
        *_scripts(),
        *([Probe("set", ("SET", number, "", "NONE"), number)] if partitions.number == 1 else []),
        Probe("set", ("SET", payload, "", "NONE"), payload),
        Probe("hset", ("HSET", camera, "", "", ""), camera),
        Probe("expire", ("EXPIRE", camera, "none"), camera),
        Probe("xadd", ("XADD", keys.frames, "0-0", "", ""), keys.frames),
        Probe("xlen", ("XLEN", keys.frames), keys.frames),
        Probe("time", ("TIME",)),
        Probe("xinfo|groups", ("XINFO GROUPS", keys.frames), keys.frames),
    ]


def _scripts() -> list[Probe]:
    return [Probe("evalsha", ("EVALSHA", "0" * 40, "0")), Probe("script|load", ("SCRIPT LOAD", "return 1"))]


def missing_permissions(client: redis.Redis, probes: Sequence[Probe]) -> list[str]:
    """Tries all probes in one round trip.

    Returns:
        What the user of the client lacks, as rules of an ACL: +command, or the command and the key that it may not use.

    Raises:
        redis.RedisError: Redis is unreachable, or rejected the login.
    """
    pipeline = client.pipeline(transaction=False)
    for probe in probes:
        pipeline.execute_command(*probe.words)  # type: ignore[no-untyped-call]
    replies = pipeline.execute(raise_on_error=False)
    return [
        f"+{probe.permission}" if "command" in str(reply) else f"+{probe.permission} ~{probe.key}"
        for probe, reply in zip(probes, replies, strict=True)
        if isinstance(reply, redis.exceptions.NoPermissionError)
    ]


def log_missing_permissions(missing: Sequence[str]) -> None:
    """Logs what the user lacks, if anything."""
    if missing:
        logger.error(
            "the Redis user lacks permissions; grant them as docs/redis-acl.md says",
            extra={"missing": ", ".join(dict.fromkeys(missing))},
        )
