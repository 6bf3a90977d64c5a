"""Makes a session from the flags of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.fpsctl.report import WRONG_USAGE, FpsctlError
from console.fpsctl.session import Session
from process.address import check_grpc_address
from process.pem import pem_error
from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url


def session_from(flags: Mapping[str, Any]) -> Session:
    """Returns the session, which hasn't connected to anything yet.

    Args:
        flags: the flags of the program by the names of their parameters; all of them.

    Raises:
        FpsctlError: a flag isn't valid, or two don't fit together.
    """
    for name in ("config_key", "prefix"):
        if not flags[name]:
            raise FpsctlError(f"--{name.replace('_', '-')} must not be empty", WRONG_USAGE)
    try:
        url = parse_redis_url(flags["redis_url"]).with_credentials(
            flags["redis_username"] or "", flags["redis_password"] or ""
        )
        access = RedisAccess(
            password_file=_path(flags["redis_password_file"]),
            ca=_path(flags["redis_ca"]),
            certificate=_path(flags["redis_cert"]),
            key=_path(flags["redis_key"]),
            sentinel_username=flags["redis_sentinel_username"] or "",
            sentinel_password=flags["redis_sentinel_password"] or "",
        )
        if error := access.error(url):
            raise ValueError(error)
        addresses = [word.strip() for given in flags["sidecar"] or () for word in given.split(",")]
        ca, certificate, key = (_path(flags[name]) for name in ("sidecar_ca", "sidecar_cert", "sidecar_key"))
        if (certificate or key) and not ca:
            raise ValueError("--sidecar-cert and --sidecar-key need --sidecar-ca: without TLS no certificate is shown")
        if (certificate is None) != (key is None):
            raise ValueError("--sidecar-cert and --sidecar-key must be given together")
        if error := pem_error(ca, certificate, key):
            raise ValueError(error)
        sidecars = tuple(check_grpc_address(address) for address in addresses if address)
    except ValueError as error:
        raise FpsctlError(str(error), WRONG_USAGE) from None
    return Session(
        url, access, flags["config_key"], flags["prefix"], sidecars, ca, certificate, key, flags["who"] or ""
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
