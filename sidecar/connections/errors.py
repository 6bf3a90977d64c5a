"""How a command to Redis can fail: the only errors that leave this package."""

from typing import Final

from process.redis_url import Address

_LOGIN_CODES: Final = frozenset({"WRONGPASS", "NOAUTH"})

_HINTS: Final = {
    "WRONGPASS": "check the user and the password of Redis",
    "NOAUTH": "give the password of Redis, for instance by --redis-password-file",
    "NOPERM": "grant the user the permissions in docs/redis-acl.md",
    "LOADING": "wait until Redis has loaded its data",
    "MOVED": "use a redis+cluster:// URL, because the server belongs to a cluster",
    "CLUSTERDOWN": "check the cluster: no node serves the key",
    "MASTERDOWN": "check the master of this replica",
    "READONLY": "use the address of the master, or a redis+sentinel:// URL",
    "OOM": "raise maxmemory or delete keys",
    "ERR": "check that the server is Redis 7.0, Valkey 7.2 or newer",
}


class RedisServerError(Exception):
    """A server of Redis couldn't be used.

    Attributes:
        summary: What happened, in a few words, as the message of a log line.
    """

    summary = "Redis failed"

    def fields(self) -> dict[str, str]:
        """Returns the fields of a log line about this error."""
        return {"reason": str(self)}


class UnreachableError(RedisServerError):
    """There is no connection, it was lost, or no answer came in time. The connection can't be used any more."""

    summary = "Redis is unreachable"


class ReplicaError(RedisServerError):
    """The server is a replica that shouldn't be used. A new connection to the same address may reach the master."""

    summary = "Redis is a replica"


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
        return "Redis rejected the login" if self.code in _LOGIN_CODES else "Redis rejected a command"

    def fields(self) -> dict[str, str]:
        """Returns the fields of a log line about this error: what Redis said, and what to do about it."""
        hint = _HINTS.get(self.code)
        return {"error": str(self)} | ({"hint": hint} if hint else {})
