"""What doctor judges: facts in, findings out. Pure."""

import enum
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from console.control.names import shown
from process.redis_url import Kind, RedisUrl


class Status(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It couldn't be made, most often because this user lacks a permission."""


class Check(NamedTuple):
    """The end of one check."""

    name: str
    status: Status
    message: str
    """A sentence for people, with what to do."""


LEAST_VERSION: Final = (7, 0)
SKEW_S: Final = 1.0
"""A sidecar's clock may be off by this much: boosts end by it."""
TABLE_AGE_S: Final = 60.0
CAP_SLACK: Final = 200
"""Entries by which one partition may exceed its cap."""
NEARLY_FULL: Final = 0.8

USERS: Final[Mapping[str, Sequence[tuple[str, ...]]]] = {
    "fps-sidecar": (("HMGET", "{limits}", "f"), ("HSCAN", "{limits}", "0"), ("HMGET", "{patterns}", "f"),
                    ("HMGET", "{boosts}", "f"), ("CLIENT", "TRACKING", "ON"), ("ROLE",), ("PING",)),
    "fps-fleet": (("HMGET", "{limits}", "f"), ("HSCAN", "{limits}", "0"), ("CLIENT", "TRACKING", "ON"), ("TIME",),
                  ("EVALSHA", "0", "1", "stream_fps_slot:{0}:f")),
    "hand-counter": (("XREADGROUP", "GROUP", "workers", "c", "STREAMS", "{queue}:frames", ">"),
                     ("XADD", "{queue}:counts", "*", "f", "v"), ("HSET", "{queue}:stream:f", "f", "v"),
                     ("EVALSHA", "0", "1", "{queue}:frames")),
    "hand-counter-publish": (("XADD", "{queue}:frames", "*", "f", "v"), ("SET", "{queue}:frame:f", "v"),
                             ("XINFO", "GROUPS", "{queue}:frames")),
    "fps-operator": (("HGETALL", "{limits}"), ("HSET", "{limits}", "f", "v"), ("HDEL", "{limits}", "f"),
                     ("XADD", "{audit}", "*", "f", "v"), ("HSET", "{patterns}", "f", "v"), ("HSET", "{boosts}", "f", "v")),
}  # fmt: skip
"""A few commands that the users of docs/redis-acl.md need; the words in braces are replaced by keys."""


def commands_of(user: str, keys: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Returns the commands that a user needs, with real keys; none for a user that docs/redis-acl.md doesn't have."""
    commands = []
    for command in USERS.get(user, ()):
        words = []
        for word in command:
            for name, key in keys.items():
                word = word.replace(f"{{{name}}}", key)
            words.append(word)
        commands.append(tuple(words))
    return commands


def transport(url: RedisUrl) -> Check:
    """Judges whether the connection to Redis is encrypted where it should be."""
    if url.tls:
        return Check("tls", Status.OK, "the connection to Redis is encrypted")
    outside = [address.host for address in url.addresses if address.port and not _is_loopback(address.host)]
    if not outside:
        return Check("tls", Status.OK, "Redis is on this machine, so it needs no TLS")
    message = f"the connection to {shown(outside[0])} isn't encrypted: use rediss:// unless the network is trusted"
    return Check("tls", Status.WARNING, message)


def version_of(info: Mapping[str, object]) -> Check:
    """Judges the server by its INFO."""
    valkey = info.get("valkey_version")
    text = str(valkey or info.get("redis_version", ""))
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    name = f"{'Valkey' if valkey else 'Redis'} {shown(text)}"
    if numbers >= LEAST_VERSION:
        return Check("version", Status.OK, name)
    return Check("version", Status.FAILED, f"{name} is too old: Redis 7.0, Valkey 7.2 or newer is needed")


def memory_of(info: Mapping[str, object]) -> Check:
    """Judges whether Redis may forget limits or frames."""
    policy, limit, used = (info.get(name) for name in ("maxmemory_policy", "maxmemory", "used_memory"))
    if policy not in (None, "noeviction"):
        message = f"maxmemory-policy is {shown(str(policy))}: Redis may drop limits and frames; set it to noeviction"
        return Check("memory", Status.FAILED, message)
    if isinstance(limit, int) and isinstance(used, int) and limit > 0 and used > 0.9 * limit:
        return Check(
            "memory", Status.WARNING, f"{used / limit:.0%} of maxmemory is used; above it, writes are rejected"
        )
    return Check("memory", Status.OK, "nothing is evicted")


def role_of(role: str, kind: Kind) -> Check:
    """Judges the role of the server."""
    if role == "master":
        return Check("role", Status.OK, "the server is a master")
    hint = "" if kind is Kind.SENTINEL else "; use the master's address, or redis+sentinel://"
    return Check("role", Status.FAILED, f"the server is a {shown(role)}, so limits can't be changed{hint}")


def key_type(name: str, key: str, found: str, expected: str) -> Check:
    """Judges the type of a key; a missing one is all right."""
    if found in ("none", expected):
        return Check(f"key {name}", Status.OK, f"{key}: {'absent' if found == 'none' else found}")
    message = f"{key} is a {shown(found)} instead of a {expected}: delete it, or use another --config-key or --prefix"
    return Check(f"key {name}", Status.FAILED, message)


def clock(here: float, redis: float, took: float) -> Check:
    """Judges this machine's clock by Redis', in Unix seconds, and how long the question took."""
    skew = abs(here - took / 2 - redis)
    if skew <= SKEW_S + took:
        return Check("clock", Status.OK, f"this machine and Redis differ by {skew:.2f} s at most")
    message = (
        f"the clocks of this machine and of Redis differ by {skew:.1f} s: synchronise them, since boosts end by them"
    )
    return Check("clock", Status.WARNING, message)


def permissions(user: str, denied: Sequence[str]) -> Check:
    """Judges what a user of Redis may do."""
    if not denied:
        return Check(f"user {shown(user, 40)}", Status.OK, "has the permissions that were tried")
    message = f"lacks {', '.join(denied[:5])}: grant what docs/redis-acl.md says"
    return Check(f"user {shown(user, 40)}", Status.FAILED, message)


def sidecar(address: str, state: str, problem: str, age: float, health: Sequence[str]) -> Check:
    """Judges one sidecar.

    Args:
        address: where it is.
        state: of its connection to Redis, as the contract names it.
        problem: why it can't read the limits; empty if it can.
        age: of its table of limits, seconds.
        health: of the server and of the component redis.
    """
    name = f"sidecar {shown(address)}"
    unwell = [each for each in health if each != "SERVING"]
    if problem or unwell:
        return Check(name, Status.FAILED, shown(problem or "; ".join(unwell), 500))
    if state == "POLLING":
        message = "reads changed limits once a second, because Redis refuses CLIENT TRACKING: grant +client|tracking"
        return Check(name, Status.WARNING, message)
    if state != "TRACKING" or age > TABLE_AGE_S:
        return Check(name, Status.FAILED, f"its limits are {age:.0f} s old ({state.lower()})")
    return Check(name, Status.OK, "serves, and is told of changed limits at once")


def agreement(setting: str, values: Mapping[str, str]) -> Check | None:
    """Judges whether sidecars have the same value of a setting that they should share; None with fewer than two."""
    if len(values) < 2:
        return None
    if len(set(values.values())) == 1:
        return Check(f"--{setting}", Status.OK, "is the same on all sidecars")
    listed = ", ".join(f"{address}: {shown(value, 40)}" for address, value in sorted(values.items())[:5])
    return Check(f"--{setting}", Status.WARNING, f"differs between sidecars ({listed})")


def queue(waiting: int, length: int) -> Check:
    """Judges how full the queue is: entries that no worker has settled, and entries that are there."""
    if waiting > 1000 and waiting > 0.5 * length:
        message = (
            f"{waiting} frames wait of {length} entries: are workers running? The cap of the queue drops the oldest"
        )
        return Check("queue", Status.WARNING, message)
    return Check("queue", Status.OK, f"{waiting} frames wait")


def cap(length: int, waiting: int, caps: Collection[int], partitions: int) -> Check:
    """Judges the length of the queue by the cap that its publishers keep.

    Args:
        length: entries that are there, in all partitions together.
        waiting: those of them that no worker has settled.
        caps: the --max-queue of the publishers that tell it.
        partitions: how many the queue has.
    """
    if not caps:
        return Check("queue cap", Status.UNKNOWN, f"{length} entries; no publisher tells its --max-queue at present")
    least, most = min(caps), max(caps)
    if least != most:
        listed = ", ".join(map(str, sorted(caps)[:5]))
        message = (
            f"publishers have different --max-queue ({listed}): the least pushes out the frames of all; make them equal"
        )
        return Check("queue cap", Status.WARNING, message)
    # Redis drops whole nodes of a stream, of some 100 entries.
    if length > 1.1 * most + CAP_SLACK * partitions:
        message = f"{length} entries, more than --max-queue {most}: does another program add entries without MAXLEN?"
        return Check("queue cap", Status.WARNING, message)
    if waiting > NEARLY_FULL * most:
        message = f"{waiting} frames wait, of --max-queue {most}: beyond it the oldest are dropped unread"
        return Check("queue cap", Status.WARNING, message)
    return Check("queue cap", Status.OK, f"{length} entries, and at most about {most} are kept")


def accounting(counters: Mapping[str, int], pending: int) -> Check:
    """Judges whether each frame that was received ended in exactly one way, or is still on its way."""
    settled = sum(
        value for name, value in counters.items() if name == "counted" or name.startswith(("skipped:", "dead:"))
    )
    received = counters.get("received", 0)
    if received - settled in range(pending + 1):
        return Check(
            "accounting", Status.OK, f"{received} received = {settled} settled + {received - settled} on their way"
        )
    message = f"{received} received, but {settled} settled and {pending} pending: is it one Redis, and was it flushed?"
    return Check("accounting", Status.WARNING, message)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
