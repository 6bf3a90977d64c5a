"""How a command to Redis can fail: the only errors that leave this package."""

import enum
from typing import Final

from process.redis_url import Address


class Problem(enum.StrEnum):
    """Why the limits can't be read, by name as metrics show it."""

    UNREACHABLE = "UNREACHABLE"
    """There is no connection, it was lost, or no answer came in time."""
    NOAUTH = "NOAUTH"
    WRONGPASS = "WRONGPASS"
    NOPERM = "NOPERM"
    WRONGTYPE = "WRONGTYPE"
    LOADING = "LOADING"
    REPLICA = "REPLICA"
    """The server is a replica that isn't in step with its master, or has just become one."""
    OTHER = "OTHER"
    """Another error, which the log names."""


_SUMMARIES: Final = {
    "WRONGPASS": "Redis rejected the user or the password",
    "NOAUTH": "Redis demands a password",
    "NOPERM": "Redis denies this user a permission",
    "WRONGTYPE": "the key of the limits isn't a hash",
    "LOADING": "Redis is still loading its data",
    "MISCONF": "Redis can't save its data, so it rejects writes",
    "OOM": "Redis has no memory left, so it rejects writes",
    "READONLY": "Redis is a replica, so it rejects writes",
}

_HINTS: Final = {
    "WRONGPASS": "check the user and the password of Redis",
    "NOAUTH": "give the password of Redis, for instance by --redis-password-file",
    "NOPERM": "log in as a user with the permissions in docs/redis-acl.md; each program has a user of its own",
    "WRONGTYPE": "delete the key or change --config-key",
    "LOADING": "wait until Redis has loaded its data",
    "MOVED": "use a redis+cluster:// URL, because the server belongs to a cluster",
    "CLUSTERDOWN": "check the cluster: no node serves the key",
    "MASTERDOWN": "check the master of this replica",
    "READONLY": "use the address of the master, or a redis+sentinel:// URL",
    "OOM": "raise maxmemory or delete keys",
    "MISCONF": "check the disk of Redis and its log",
    "ERR": "check that the server is Redis 7.0, Valkey 7.2 or newer",
}


REJECTED_BY_LIVING: Final = frozenset({"MISCONF", "NOPERM"})
"""Errors in answer to PING from a server that may answer reads all the same: it can't save its data, or an ACL."""


class RedisServerError(Exception):
    """A server of Redis couldn't be used.

    Attributes:
        summary: What happened, in a few words, as the message of a log line.
    """

    summary = "Redis failed"
    hint = ""
    """What to do about it; empty where that isn't known."""
    problem = Problem.OTHER

    @property
    def sentence(self) -> str:
        """What happened, in which words, and what to do about it, in one line."""
        return f"{self.summary}: {self}" + (f" ({self.hint})" if self.hint else "")

    def fields(self) -> dict[str, str]:
        """Returns the fields of a log line about this error."""
        return {"reason": str(self)}


class UnreachableError(RedisServerError):
    """There is no connection, it was lost, or no answer came in time. The connection can't be used any more."""

    summary = "Redis is unreachable"
    problem = Problem.UNREACHABLE


class ReplicaError(RedisServerError):
    """The server is a replica that shouldn't be used. A new connection to the same address may reach the master."""

    summary = "Redis is a replica"
    hint = "use an address that leads to the master, or a redis+sentinel:// URL"
    problem = Problem.REPLICA


class RejectedError(RedisServerError):
    """The server answered with an error. The connection is still good.

    Args:
        code: The first word of the error, such as WRONGTYPE, MOVED or NOPERM; ERR if it has none.
        text: The whole error.
        redirect: The server that a cluster names instead, if the code is MOVED or ASK.
    """

    def __init__(self, code: str, text: str, redirect: Address | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.redirect = redirect

    @property
    def summary(self) -> str:  # type: ignore[override]
        """What happened, in a few words, as the message of a log line."""
        return _SUMMARIES.get(self.code, "Redis rejected a command")

    @property
    def hint(self) -> str:  # type: ignore[override]
        """What to do about it; empty where that isn't known."""
        return _HINTS.get(self.code, "")

    @property
    def problem(self) -> Problem:  # type: ignore[override]
        """Why the limits can't be read."""
        return Problem(self.code) if self.code in Problem.__members__ else Problem.OTHER

    def fields(self) -> dict[str, str]:
        """Returns the fields of a log line about this error: what Redis said, and what to do about it."""
        return {"error": str(self)} | ({"hint": self.hint} if self.hint else {})
