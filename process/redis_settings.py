"""The flags that say where Redis is and how to log in; both programs have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, SecretStr

from process.redis_url import RedisUrl, parse_redis_url
from process.settings import ProgramSettings

if TYPE_CHECKING:
    from process.redis_access import RedisAccess


def _check_redis_url(url: str) -> str:
    parse_redis_url(url)
    return url


RedisUrlText = Annotated[str, AfterValidator(_check_redis_url)]


class RedisSettings(ProgramSettings):
    """Where Redis is."""

    redis_url: RedisUrlText = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey, 7.0 or newer: redis://, rediss:// (TLS), unix://, "
        "redis+sentinel://HOST:PORT,…/SERVICE/DB, redis+cluster://HOST:PORT,… (rediss+… for TLS)",
        json_schema_extra={"metavar": "URL", "secret": True},
    )
    redis_username: str = Field("", description="user for the login to Redis, unless the URL names one")
    redis_password: SecretStr | None = Field(
        None, description="password for Redis; use the variable or a file, because other users can see flags"
    )
    redis_password_file: Path | None = Field(
        None, description="file with the password for Redis; read for each connection, so it may change"
    )
    redis_ca: Path | None = Field(
        None, description="CA certificate that verifies Redis, in addition to the system's CAs (PEM file)"
    )
    redis_cert: Path | None = Field(None, description="client certificate for Redis (PEM file)")
    redis_key: Path | None = Field(None, description="key of that certificate (PEM file)")
    redis_sentinel_username: str = Field("", description="user for the login to the Sentinels")
    redis_sentinel_password: SecretStr | None = Field(None, description="password for the Sentinels")

    @property
    def redis(self) -> RedisUrl:
        """Returns where Redis is and who logs in; raises ValueError if both the URL and a flag say it."""
        password = self.redis_password.get_secret_value() if self.redis_password else ""
        return parse_redis_url(self.redis_url).with_credentials(self.redis_username, password)

    @property
    def redis_access(self) -> RedisAccess:
        """Returns what connections to Redis need in addition to the URL."""
        from process.redis_access import RedisAccess  # --help doesn't need redis-py

        sentinel_password = self.redis_sentinel_password
        return RedisAccess(
            password_file=self.redis_password_file,
            ca=self.redis_ca,
            certificate=self.redis_cert,
            key=self.redis_key,
            sentinel_username=self.redis_sentinel_username,
            sentinel_password=sentinel_password.get_secret_value() if sentinel_password else "",
        )
