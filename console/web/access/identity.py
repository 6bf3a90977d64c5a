"""Who asks, and what they may do. Pure: gets headers and addresses, returns an identity or why there is none."""

import enum
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
    """The tokens that log in. They are read from files at each login, so that they may be replaced."""

    operator: Callable[[], str]
    viewer: Callable[[], str]
    """Each returns an empty text if there is no such token."""

    def identity(self, given: str) -> Identity:
        """Returns whom a token logs in; NOBODY if it is wrong. The time that this takes doesn't tell how much was right."""
        is_operator = _same(given, self.operator())
        is_viewer = _same(given, self.viewer())
        if is_operator:
            return Identity("operator", Role.OPERATOR)
        return Identity("viewer", Role.VIEWER) if is_viewer else NOBODY


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


def _same(given: str, expected: str) -> bool:
    return bool(expected) and hmac.compare_digest(given.encode(errors="replace"), expected.encode())
