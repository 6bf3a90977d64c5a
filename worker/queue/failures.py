"""What an error of Redis means, and what to do about it, for log lines. Pure."""

import redis

from process.redis_failures import failure_code

_WORDS = {
    "NOAUTH": ("Redis demands a password", "give the password, for instance by --redis-password-file"),
    "WRONGPASS": ("Redis rejected the user or the password", "check the user and the password of Redis"),
    "LOGIN": ("Redis rejected the login", "check the user and the password of Redis"),
    "NOPERM": ("Redis denies this user a permission", "grant the permissions in docs/redis-acl.md"),
    "OOM": ("Redis has no memory left, so it rejects writes", "raise maxmemory or delete keys"),
    "MISCONF": ("Redis can't save its data, so it rejects writes", "check the disk of Redis and its log"),
    "READONLY": (
        "Redis is a replica, so it rejects writes",
        "use the address of the master, or a redis+sentinel:// URL",
    ),
    "NOREPLICAS": (
        "Redis has too few replicas, so it rejects writes",
        "check the replicas, or min-replicas-to-write",
    ),
    "LOADING": ("Redis is still loading its data", "wait until Redis has loaded its data"),
    "BUSY": ("Redis is busy running a script", "wait, or end the script by SCRIPT KILL"),
    "MASTERDOWN": ("Redis is a replica without its master", "check the master of this replica"),
    "CLUSTERDOWN": ("the cluster can't serve the queue", "check the cluster: no node serves the key"),
    "MOVED": (
        "the server belongs to a cluster",
        "use a redis+cluster:// URL",
    ),
    "MAXCLIENTS": ("Redis accepts no more connections", "raise maxclients or close connections"),
    "WRONGTYPE": (
        "a key of the queue has another type",
        "delete that key, or choose another --prefix; TYPE shows which key it is",
    ),
    "NOT_A_NUMBER": ("a counter of the accounting isn't a number", "repair the fields below {...}:accounting"),
    "NO_IDS_LEFT": (
        "a stream has no ids left, because an entry has the last one",
        "delete that stream; XINFO STREAM shows which one it is",
    ),
}
"""By code: what happened, and what to do about it."""


def failure_in_words(error: redis.RedisError) -> tuple[str, dict[str, str]]:
    """Returns what an error means, and the fields of its log line: the error itself, and what to do if that is known."""
    about = {"error": f"{type(error).__name__}: {error}"}
    if words := _WORDS.get(failure_code(error)):
        what, hint = words
        return what, {**about, "hint": hint}
    return ("Redis rejected a command" if isinstance(error, redis.ResponseError) else "Redis is unreachable"), about


def is_rejection(error: redis.RedisError) -> bool:
    """Returns whether Redis answered one command with an error; else no command can be used, or not before a login."""
    return isinstance(error, redis.ResponseError) and failure_code(error) != "NOAUTH"
