"""What a connection to Redis needs in addition to the URL, and redis-py's options for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.credentials import CredentialProvider

from process.pem import pem_error
from process.redis_url import Kind, RedisUrl


@dataclass(frozen=True)
class RedisAccess:
    """What a connection needs in addition to the URL. Files are read for each connection, so they may be replaced."""

    password_file: Path | None = None
    ca: Path | None = None
    """CA certificates to trust in addition to the system's."""
    certificate: Path | None = None
    """The client certificate; its key is in ``key``."""
    key: Path | None = None
    sentinel_username: str = ""
    sentinel_password: str = ""

    def error(self, url: RedisUrl) -> str | None:
        """Returns why this doesn't fit a URL or a file can't be used; None if all is valid."""
        if (self.ca or self.certificate or self.key) and not url.tls:
            return f"certificates for Redis need rediss://, got {url.shown}"
        if (self.certificate is None) != (self.key is None):
            return "a client certificate for Redis needs both the certificate and its key"
        if self.password_file and url.password:
            return "the password of Redis is given twice: as text and in a file"
        if self.sentinel_password and url.kind is not Kind.SENTINEL:
            return f"a password for Sentinels needs redis+sentinel://, got {url.shown}"
        if self.password_file:
            try:
                self.password_file.read_bytes()
            except OSError as problem:
                return f"cannot read {self.password_file}: {problem.strerror}"
        return pem_error(self.ca, self.certificate, self.key)


class _FilePassword(CredentialProvider):
    """Reads the password for each new connection, so that a rotated secret is picked up."""

    def __init__(self, username: str, path: Path) -> None:
        self._username = username
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text().strip()
        return (self._username, password) if self._username else (password,)


def connection_options(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """Returns redis-py's options, synchronous or not, for a connection to a server of this URL, without its address."""
    # CLIENT SETINFO would need one more permission.
    options: dict[str, Any] = {"db": url.db, "driver_info": None}
    if access.password_file:
        options["credential_provider"] = _FilePassword(url.username, access.password_file)
    elif url.password or url.username:
        options |= {"username": url.username or None, "password": url.password}
    return options


def tls_options(access: RedisAccess) -> dict[str, Any]:
    """Returns redis-py's options for a connection with TLS."""
    paths = {"ssl_ca_certs": access.ca, "ssl_certfile": access.certificate, "ssl_keyfile": access.key}
    return {name: str(path) for name, path in paths.items() if path}
