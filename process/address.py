"""Addresses as users write them: HOST:PORT, [IPV6]:PORT, unix:/path; and URLs without their passwords, for logs."""

import re
from typing import Final

_SCHEME: Final = re.compile(
    r"[a-zA-Z][a-zA-Z0-9+.-]*:/+|(dns|ipv4|ipv6|vsock|xds|google-c2p|passthrough|unix-abstract):(?!\d+$)"
)
"""What begins URLs and the names of gRPC's resolvers. A host may be called like one of these."""


def split_host_port(address: str) -> tuple[str, int]:
    """Splits HOST:PORT or [IPV6]:PORT into host and port; an empty host means every interface.

    Raises:
        ValueError: The text is neither; the message says what was expected.
    """
    if scheme := _SCHEME.match(address):
        raise ValueError(f"expected HOST:PORT without {scheme[0]!r}, got {mask_password(address)!r}")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"expected HOST:PORT, got {address!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets, as in [::1]:{port}, got {address!r}")
    return host, int(port)


def check_grpc_address(address: str) -> str:
    """Returns the address if gRPC accepts it: HOST:PORT or unix:/path.

    Raises:
        ValueError: It is neither; the message says what was expected.
    """
    if address.startswith("unix:"):
        if not address.removeprefix("unix:").startswith("/"):
            raise ValueError(f"a unix socket needs an absolute path, as in unix:/run/fps.sock, got {address!r}")
        return address
    split_host_port(address)
    return address


def mask_password(url: str) -> str:
    """Replaces the password of a URL, before the host or in the query, with three asterisks."""
    url = re.sub(r"(?<=://)([^/@]*?):[^/]*@", r"\1:***@", url)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", url)
