"""What an error of Redis means for somebody who reads or changes limits, and what to do about it. No I/O."""

from typing import Final

import redis

from process.redis_failures import failure_code

_WORDS: Final = {
    "NOAUTH": ("Redis demands a password", "give it in FPSCTL_REDIS_PASSWORD or by --redis-password-file"),
    "WRONGPASS": ("Redis rejected the user or the password", "check both"),
    "LOGIN": ("Redis rejected the login", "check the user and the password"),
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

_CONSOLE_HINTS: Final = {
    "NOAUTH": "give it in CONSOLE_REDIS_PASSWORD or by --redis-password-file",
    "NOPERM": "grant the permissions in docs/redis-acl.md",
}
"""Where whoever runs the page has to do something else than whoever calls a command."""


def failure_in_words(error: redis.RedisError, *, of_console: bool = False) -> tuple[str, str]:
    """Returns what an error means and its own words, and what to do about it, empty if that isn't known."""
    code = failure_code(error)
    what, hint = _WORDS.get(code, ("", ""))
    if of_console:
        hint = _CONSOLE_HINTS.get(code, hint)
    if not what:
        what = "Redis rejected a command" if isinstance(error, redis.ResponseError) else "Redis is unreachable"
        hint = "" if isinstance(error, redis.ResponseError) else "check --redis-url, and whether the server runs"
    return f"{what}: {error}", hint
