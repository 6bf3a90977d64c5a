"""What an error of Redis means for somebody who reads or changes limits, and what to do about it. No I/O."""

from typing import Final

import redis
from redis.exceptions import ClusterDownError, MasterDownError, NoPermissionError, OutOfMemoryError

_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (NoPermissionError, "NOPERM"),
    (OutOfMemoryError, "OOM"),
    (redis.ReadOnlyError, "READONLY"),
    (redis.BusyLoadingError, "LOADING"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
)
"""The classes for which redis-py removes the code from the message; the first that fits counts."""

_PARTS: Final = (
    ("unauthenticated", "NOAUTH"),
    ("Authentication required", "NOAUTH"),
    ("HELLO must be called", "NOAUTH"),
    ("invalid username-password", "WRONGPASS"),
    ("invalid password", "WRONGPASS"),
    ("ACL failure in script", "NOPERM"),
    ("wrong kind of value", "WRONGTYPE"),
)
"""Parts of messages whose code is missing or says less."""

_WORDS: Final = {
    "NOAUTH": ("Redis demands a password", "give it in FPSCTL_REDIS_PASSWORD or by --redis-password-file"),
    "WRONGPASS": ("Redis rejected the user or the password", "check both"),
    "NOPERM": ("Redis denies this user a permission", "log in as the operator in docs/redis-acl.md"),
    "OOM": ("Redis has no memory left, so it rejects changes", "raise maxmemory or delete keys"),
    "MISCONF": ("Redis can't save its data, so it rejects changes", "check the disk of Redis and its log"),
    "READONLY": ("Redis is a replica, so it rejects changes", "use the address of the master, or redis+sentinel://"),
    "LOADING": ("Redis is still loading its data", "wait until it has"),
    "MASTERDOWN": ("Redis is a replica without its master", "check the master of this replica"),
    "CLUSTERDOWN": ("the cluster is down", "check its nodes: no node serves the key"),
    "MOVED": ("the server belongs to a cluster", "use a redis+cluster:// URL"),
    "WRONGTYPE": (
        "a key of the limits has another type",
        "fpsctl doctor says which one; delete it, or change --config-key",
    ),
}


def failure_code(error: redis.RedisError) -> str:
    """Returns the code of an error that Redis answered with, such as NOPERM; empty if it has none or didn't answer."""
    text = str(error)
    for part, code in _PARTS:
        if part in text:
            return code
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    if isinstance(error, redis.AuthenticationError):
        return "WRONGPASS"
    first = text.partition(" ")[0]
    return first if isinstance(error, redis.ResponseError) and first.isupper() else ""


def failure_in_words(error: redis.RedisError) -> tuple[str, str]:
    """Returns what an error means and its own words, and what to do about it, empty if that isn't known."""
    what, hint = _WORDS.get(failure_code(error), ("", ""))
    if not what:
        what = "Redis rejected a command" if isinstance(error, redis.ResponseError) else "Redis is unreachable"
        hint = "" if isinstance(error, redis.ResponseError) else "check --redis-url, and whether the server runs"
    return f"{what}: {error}", hint
