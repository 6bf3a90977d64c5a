"""By which code Redis refused a command, whatever redis-py made of its answer. Pure."""

from typing import Final

import redis
from redis.exceptions import ClusterDownError, MasterDownError, NoPermissionError, OutOfMemoryError

_CLASSES: Final[tuple[tuple[type[redis.RedisError], str], ...]] = (
    (NoPermissionError, "NOPERM"),
    (OutOfMemoryError, "OOM"),
    (redis.ReadOnlyError, "READONLY"),
    (redis.BusyLoadingError, "LOADING"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
)
"""The classes for which redis-py removes the code from the message; the first that fits counts."""

_PARTS: Final = (
    ("unauthenticated", "NOAUTH"),  # what Redis says about a long command before the login
    ("Authentication required", "NOAUTH"),
    ("HELLO must be called", "NOAUTH"),
    ("invalid username-password", "WRONGPASS"),
    ("invalid password", "WRONGPASS"),
    ("max number of clients reached", "MAXCLIENTS"),
    ("ACL failure in script", "NOPERM"),
    ("not an integer", "NOT_A_NUMBER"),
    ("would overflow", "NOT_A_NUMBER"),
    ("exhausted the last possible ID", "NO_IDS_LEFT"),
)
"""Parts of messages whose code is missing or says less."""


def failure_code(error: redis.RedisError) -> str:
    """Returns the code of an error that Redis answered with, such as WRONGTYPE; empty if it has none or didn't answer."""
    text = str(error)
    for part, code in _PARTS:
        if part in text:
            return code
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    if isinstance(error, redis.AuthenticationError):
        return "LOGIN"
    if isinstance(error, redis.exceptions.AskError):
        return "MOVED"
    first = text.partition(" ")[0]
    return first if isinstance(error, redis.ResponseError) and first.isupper() else ""
