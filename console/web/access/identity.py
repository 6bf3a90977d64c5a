"""Who asks, and what they may do. Pure: gets headers and addresses, returns an identity or why there is none."""

import enum
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Role(enum.IntEnum):
    """What somebody may do; each role may also do what the ones before may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2


@dataclass(frozen=True)
class Identity:
    """Somebody, for the audit."""

    name: str
    role: Role


NOBODY = Identity("", Role.NOBODY)


@dataclass(frozen=True)
class Proxy:
    """A proxy that logs people in and tells who they are in headers."""

    user_header: str
    groups_header: str
    operator_groups: frozenset[str]
    """Who is in one of these is an operator; the others are viewers."""
    trusted: tuple[Network, ...]
    """Where the proxy's connections come from. Headers of anybody else are ignored."""

    @property
    def headers(self) -> tuple[str, str]:
        """The headers in which the proxy speaks."""
        return self.user_header, self.groups_header

    def identity(self, headers: Mapping[str, str], client: str) -> Identity:
        """Returns who asks; NOBODY if the request isn't from the proxy, or the proxy doesn't say who it is."""
        if not is_in(client, self.trusted):
            return NOBODY
        user = headers.get(self.user_header.lower(), "").strip()
        if not user:
            return NOBODY
        groups = {group.strip() for group in headers.get(self.groups_header.lower(), "").split(",")}
        return Identity(user[:200], Role.OPERATOR if groups & self.operator_groups else Role.VIEWER)


@dataclass(frozen=True)
class Tokens:
    """The tokens that log in. They may be replaced: then the sessions that the old ones opened end."""

    operator: Callable[[], tuple[str, ...]]
    viewer: Callable[[], tuple[str, ...]]
    """Each returns those that log in at present; while one replaces another there may be both."""

    def identity(self, given: str) -> Identity:
        """Returns whom a token logs in; NOBODY if it is wrong. The time that this takes doesn't tell how much was right."""
        is_operator = _is_one_of(given, self.operator())
        is_viewer = _is_one_of(given, self.viewer())
        if is_operator:
            return Identity("operator", Role.OPERATOR)
        return Identity("viewer", Role.VIEWER) if is_viewer else NOBODY

    def holds(self, role: Role, key: bytes) -> bool:
        """Returns whether the token with this key, see :func:`key_of`, still logs in with this role."""
        tokens = self.operator() if role is Role.OPERATOR else self.viewer()
        return any(hmac.compare_digest(key_of(token), key) for token in tokens)


def is_in(client: str, networks: tuple[Network, ...]) -> bool:
    """Returns whether an address is in one of the networks."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def host_of(header: str) -> str:
    """Returns the host of a Host header or of an origin, in lower case, without the port."""
    host = header.rpartition("://")[2].strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def key_of(token: str) -> bytes:
    """Returns what a session keeps of the token that opened it."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _is_one_of(given: str, expected: tuple[str, ...]) -> bool:
    found = False
    for token in expected:
        found |= bool(token) and hmac.compare_digest(given.encode(errors="replace"), token.encode(errors="replace"))
    return found
