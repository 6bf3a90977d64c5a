"""What a connection to Redis needs in addition to the URL, and redis-py's options for it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.credentials import CredentialProvider

from process.pem import pem_error
from process.redis_url import Kind, RedisUrl

logger = logging.getLogger(__name__)


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
                _read_password(self.password_file)
            except ValueError as problem:
                return str(problem)
        return pem_error(self.ca, self.certificate, self.key)


class FilePassword(CredentialProvider):
    """Reads the password for each new connection, so that a rotated secret is picked up.

    While a secret is replaced, its file may be missing, unreadable or half written for a moment. Until it can be read
    again, the last password is used. Without one, the server counts as unreachable, which every caller retries.
    """

    def __init__(self, username: str, path: Path) -> None:
        self._username = username
        self._path = path
        self._password = ""
        self._readable = True

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Returns the words of the login. Raises redis.ConnectionError if no password was ever read."""
        try:
            self._password = _read_password(self._path)
        except ValueError as problem:
            if not self._password:
                raise redis.ConnectionError(str(problem)) from problem
            if self._readable:  # the file's path and the reason, but never its content
                logger.warning("using the last password of Redis", extra={"reason": str(problem)})
            self._readable = False
        else:
            self._readable = True
        return (self._username, self._password) if self._username else (self._password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Returns the same; redis-py's own version of this method logs a warning at each call."""
        return self.get_credentials()


def _read_password(path: Path) -> str:
    """Returns the password in a file, without the line's end and a byte order mark.

    Raises:
        ValueError: The file can't be read, is empty, or isn't text; the message names the file and the reason.
    """
    try:
        password = path.read_bytes().decode("utf-8-sig").strip()
    except OSError as problem:
        raise ValueError(f"cannot read {path}: {problem.strerror}") from problem
    except UnicodeDecodeError:
        raise ValueError(f"{path} isn't UTF-8 text") from None
    if not password:
        raise ValueError(f"{path} is empty; it must contain the password of Redis")
    return password


def connection_options(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """Returns redis-py's options, synchronous or not, for connections to the servers of a URL, without their addresses.

    Whoever connects more than once keeps the options, because they know the last password that a file contained.
    """
    # CLIENT SETINFO would need one more permission.
    options: dict[str, Any] = {"db": url.db, "driver_info": None}
    if access.password_file:
        options["credential_provider"] = FilePassword(url.username, access.password_file)
    elif url.password or url.username:
        options |= {"username": url.username or None, "password": url.password}
    return options


def tls_options(access: RedisAccess) -> dict[str, Any]:
    """Returns redis-py's options for a connection with TLS."""
    paths = {"ssl_ca_certs": access.ca, "ssl_certfile": access.certificate, "ssl_keyfile": access.key}
    return {name: str(path) for name, path in paths.items() if path}
