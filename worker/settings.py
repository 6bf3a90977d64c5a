"""What the settings of several subcommands share: each field is a flag and an environment variable WORKER_*.

Each subcommand has a settings class, whose docstring and EXAMPLES are what --help shows around the flags. The function
of the subcommand gets the class's ``arguments`` and never sees the class.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from process.fields import LogFormat, LogLevel
from process.pem import pem_error
from process.redis_settings import RedisSettings, RedisUrlText
from process.settings import ProgramSettings
from worker.queue.keys import DEFAULT_PREFIX
from worker.queue.partitions import MOST_PARTITIONS, prefix_error


def _prefix(value: str) -> str:
    if error := prefix_error(value):
        raise ValueError(error)
    return value


KeyPrefix = Annotated[
    str,
    Field(min_length=1, pattern=r"^[^{}]+$", description="prefix of the Redis keys: {prefix}:frames, ..."),
    AfterValidator(_prefix),
]


def sidecar_error(ca: Path | None, certificate: Path | None, key: Path | None) -> str | None:
    """Returns the error for the PEM files of a sidecar; None if they can be used. gRPC would report none, and never connect."""
    if (certificate is None) != (key is None):
        return "--sidecar-cert and --sidecar-key must be given together"
    if certificate and not ca:
        return "--sidecar-cert needs --sidecar-ca: without TLS no certificate is shown"
    return pem_error(ca, certificate, key)


class WorkerSettings(ProgramSettings):
    """The settings of all subcommands."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", protected_namespaces=())

    EXAMPLES: ClassVar[str] = ""

    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of the subcommand's function."""
        return self.model_dump(exclude={"log_level", "log_format"})


class QueueSettings(WorkerSettings, RedisSettings):
    """Where the queue is."""

    model_config = WorkerSettings.model_config

    redis_url: RedisUrlText = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey, 7.0 or newer: redis://, rediss:// (TLS), unix://, "
        "redis+sentinel://HOST:PORT,…/SERVICE/DB, redis+cluster://HOST:PORT,… (rediss+… for TLS)",
        json_schema_extra={"metavar": "URL", "secret": True},
    )
    prefix: KeyPrefix = DEFAULT_PREFIX

    @model_validator(mode="after")
    def _queue_can_be_reached(self) -> Self:
        if error := self.redis_access.error(self.redis):
            raise ValueError(error)
        return self

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of the subcommand's function; for Redis, the parsed URL and the access."""
        given = {name: value for name, value in super().arguments().items() if name not in RedisSettings.model_fields}
        return {**given, "redis": self.redis, "redis_access": self.redis_access}


class PartitionSettings(QueueSettings):
    """Where the queue is, and into how many partitions it is divided."""

    partitions: int = Field(
        1,
        ge=1,
        le=MOST_PARTITIONS,
        description="partitions of the queue, which are spread over the nodes of a cluster; the same number for all "
        "workers and publishers, as Redis notes",
    )
