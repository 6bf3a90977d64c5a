"""Redis addresses as users write them: one server, a unix socket, Sentinels, a cluster; with or without TLS.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]                          rediss:// for TLS
    unix://[USER:PASSWORD@]/PATH[?db=DB]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/SERVICE[/DB]       rediss+sentinel:// for TLS
    redis+cluster://[USER:PASSWORD@]HOST[:PORT],…                     rediss+cluster:// for TLS

Nothing here does I/O. No message shows any part of a URL, because a password with an unescaped / can be in any part.
"""

import enum
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379


class Kind(enum.Enum):
    """What the addresses of a URL belong to."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Address(NamedTuple):
    """Where one server listens: a TCP port, or a unix socket (its path as the host, port 0)."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.port == 0:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class RedisUrl:
    """A parsed Redis URL."""

    kind: Kind
    addresses: tuple[Address, ...]
    """The server, the Sentinels, or some nodes of the cluster; never empty."""
    db: int = 0
    service: str = ""
    """The Sentinels' name for the master."""
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """Returns the URL with its password masked, for logs."""
        if self.addresses[0].port == 0:
            return f"unix://{self._user()}{quote(self.addresses[0].host)}" + (f"?db={self.db}" if self.db else "")
        suffix = "" if self.kind is Kind.SERVER else f"+{self.kind.value}"
        path = f"/{self.service}" if self.service else ""
        if self.kind is not Kind.CLUSTER:
            path += f"/{self.db}"
        return f"redis{'s' if self.tls else ''}{suffix}://{self._user()}{','.join(map(str, self.addresses))}{path}"

    def with_credentials(self, username: str, password: str) -> "RedisUrl":
        """Adds a user and a password; raises ValueError if the URL already has one of them."""
        if username and self.username:
            raise ValueError("the Redis URL already names a user: give the user once")
        if password and self.password:
            raise ValueError("the Redis URL already has a password: give the password once")
        return replace(self, username=username or self.username, password=password or self.password)

    def _user(self) -> str:
        if not self.username and not self.password:
            return ""
        return f"{quote(self.username)}{':***' if self.password else ''}@"


def parse_redis_url(url: str) -> RedisUrl:
    """Parses a URL; raises ValueError with the mistake in one sentence."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError("a Redis URL begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    base, _, suffix = scheme.partition("+")
    if scheme == "unix":
        return _unix(_split(url))
    if base not in ("redis", "rediss") or suffix not in ("", "sentinel", "cluster"):
        raise ValueError(
            "not a scheme for Redis: use redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    kind = Kind(suffix) if suffix else Kind.SERVER
    parts = _split(url)
    if parts.query or parts.fragment:
        raise ValueError(f"a {scheme}:// URL takes nothing after ? or #: certificates and timeouts are flags")
    login, _, hosts = parts.netloc.rpartition("@")
    default_port = DEFAULT_SENTINEL_PORT if kind is Kind.SENTINEL else DEFAULT_PORT
    addresses = tuple(_address(host, default_port) for host in hosts.split(","))
    if len(addresses) > 1 and kind is Kind.SERVER:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    service, db = _path(kind, parts.path)
    username, password = _login(login)
    return RedisUrl(kind, addresses, db, service, base == "rediss", username, password)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("the Redis URL has a malformed host: IPv6 needs brackets, as in [::1]:6379") from None


def _unix(parts: SplitResult) -> RedisUrl:
    login, _, host = parts.netloc.rpartition("@")
    if host or not parts.path.startswith("/"):
        raise ValueError("a unix socket needs an absolute path, as in unix:///run/redis.sock")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    db = _db(query.pop("db", "0"))
    if query or parts.fragment:
        raise ValueError("a unix:// URL takes ?db=N and nothing else")
    return RedisUrl(Kind.SERVER, (Address(unquote(parts.path), 0),), db, "", False, *_login(login))


def _login(login: str) -> tuple[str, str]:
    username, _, password = login.partition(":")
    return unquote(username), unquote(password)


def _address(text: str, default_port: int) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"the Redis URL has a malformed host: IPv6 needs brackets, as in [::1]:{default_port}")
        port = rest[1:] if rest else str(default_port)
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise ValueError(f"the Redis URL has a malformed host: IPv6 needs brackets, as in [::1]:{default_port}")
        port = port if colon else str(default_port)
    if not host:
        raise ValueError("the Redis URL has an empty host")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("the port of a Redis URL must be 1 to 65535")
    return Address(unquote(host), int(port))


def _path(kind: Kind, path: str) -> tuple[str, int]:
    words = [unquote(word) for word in path.strip("/").split("/") if word]
    if kind is Kind.SENTINEL:
        if not words or len(words) > 2:
            raise ValueError("redis+sentinel:// needs the service, as in redis+sentinel://HOST:26379/SERVICE[/DB]")
        return words[0], _db(words[1] if len(words) == 2 else "0")
    if len(words) > 1:
        raise ValueError("the path of a Redis URL is the number of the database, as in redis://HOST:6379/0")
    db = _db(words[0] if words else "0")
    if kind is Kind.CLUSTER and db != 0:
        raise ValueError("a Redis cluster has only database 0")
    return "", db


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("the database of a Redis URL must be a number, as in redis://HOST:6379/0")
    return int(text)
