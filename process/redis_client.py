"""Connections to Redis from a parsed URL: their options, and the client for programs that don't need more."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from process.redis_url import Kind, RedisUrl


@dataclass(frozen=True)
class RedisAccess:
    """What a connection needs besides the URL. Files are read anew for each connection, so they may be replaced."""

    password_file: Path | None = None
    ca: Path | None = None
    """Certificates to trust besides the system's."""
    certificate: Path | None = None
    """This client's own certificate, with its key beside it."""
    key: Path | None = None
    sentinel_username: str = ""
    sentinel_password: str = ""

    def error(self, url: RedisUrl) -> str | None:
        """Says what is wrong with it for this URL; None if nothing is."""
        if (self.ca or self.certificate or self.key) and not url.tls:
            return f"certificates for Redis need rediss://, got {url.shown}"
        if (self.certificate is None) != (self.key is None):
            return "a client certificate for Redis needs both the certificate and its key"
        if self.password_file and url.password:
            return "the password of Redis is given twice: by itself and by a file"
        if self.sentinel_password and url.kind is not Kind.SENTINEL:
            return f"a password for Sentinels needs redis+sentinel://, got {url.shown}"
        for path in (self.password_file, self.ca, self.certificate, self.key):
            if path is not None:
                try:
                    path.read_bytes()
                except OSError as problem:
                    return f"cannot read {path}: {problem.strerror}"
        return None


class _FilePassword(CredentialProvider):
    """Reads the password when a connection is made, so that a rotated secret is picked up."""

    def __init__(self, username: str, path: Path) -> None:
        self._username = username
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text().strip()
        return (self._username, password) if self._username else (password,)


def connection_options(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """The options of redis-py, synchronous or not, for a connection to a server of this URL, without its address."""
    # CLIENT SETINFO would ask for one more permission.
    options: dict[str, Any] = {"db": url.db, "driver_info": None}
    if access.password_file:
        options["credential_provider"] = _FilePassword(url.username, access.password_file)
    elif url.password or url.username:
        options |= {"username": url.username or None, "password": url.password}
    return options


def tls_options(access: RedisAccess) -> dict[str, Any]:
    """The options of redis-py for a connection with TLS."""
    paths = {"ssl_ca_certs": access.ca, "ssl_certfile": access.certificate, "ssl_keyfile": access.key}
    return {name: str(path) for name, path in paths.items() if path}


def redis_client(url: RedisUrl, access: RedisAccess, **options: Any) -> "redis.Redis | redis.RedisCluster":
    """A synchronous client for any URL; `options` are redis-py's, such as socket_timeout.

    It doesn't retry unless told to: redis-py's own ten attempts turn a lost server into seconds of silence.
    """
    options = connection_options(url, access) | {"retry": Retry(NoBackoff(), 0)} | options
    if url.tls:
        options |= {"ssl": True, **tls_options(access)}
    if url.kind is Kind.CLUSTER:
        options.pop("db")
        nodes = [
            redis.cluster.ClusterNode(*address)  # type: ignore[no-untyped-call]
            for address in url.addresses
        ]
        return redis.RedisCluster(startup_nodes=nodes, **options)
    if url.kind is Kind.SENTINEL:
        sentinel_options = {name: options[name] for name in options if name.startswith(("ssl", "socket_"))}
        if access.sentinel_password:
            sentinel_options["password"] = access.sentinel_password
            sentinel_options["username"] = access.sentinel_username or None
        sentinels = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            list(url.addresses), sentinel_kwargs=sentinel_options
        )
        master: redis.Redis = sentinels.master_for(url.service, **options)  # type: ignore[no-untyped-call]
        return master
    address = url.addresses[0]
    if address.port == 0:
        return redis.Redis(unix_socket_path=address.host, **options)
    return redis.Redis(host=address.host, port=address.port, **options)
