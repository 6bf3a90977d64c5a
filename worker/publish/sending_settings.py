"""The flags that the commands which publish share: how frames are kept in the queue, and who tells the limits."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from process.fields import FiniteSeconds, OptionalGrpcAddress
from worker.publish.options import DestinationOptions, LimitsOptions
from worker.publish.outbox import OUTBOX_BYTES
from worker.queue.partitions import Partitions
from worker.settings import PartitionSettings, sidecar_error


class SendingSettings(PartitionSettings):
    """Where frames go."""

    model_config = PartitionSettings.model_config

    payload_ttl: FiniteSeconds = Field(
        30.0, ge=0.1, le=1e6, description="seconds after which a picture that no worker has fetched is deleted"
    )
    max_queue: int = Field(
        20_000,
        ge=1,
        description="about how many entries the queue keeps, of all streams; when it is full of unread ones, files "
        "wait, and a camera's frames push out the oldest",
    )
    max_bytes_waiting: int = Field(
        OUTBOX_BYTES, ge=1, description="bytes of pictures that wait here while Redis is slow; cameras drop older ones"
    )
    sidecar: OptionalGrpcAddress = Field(
        "",
        description="leave out the frames that this sidecar would deny: HOST:PORT or unix:/path. Empty: publish all",
    )
    sidecar_ca: Path | None = Field(
        None, description="CA certificate (PEM file) that verifies the sidecar; enables TLS"
    )
    sidecar_cert: Path | None = Field(None, description="client certificate for the sidecar (PEM file)")
    sidecar_key: Path | None = Field(None, description="private key of the client certificate (PEM file)")

    @model_validator(mode="after")
    def _sidecar_certificates_are_valid(self) -> Self:
        if error := sidecar_error(self.sidecar_ca, self.sidecar_cert, self.sidecar_key):
            raise ValueError(error)
        return self

    @property
    def destination(self) -> DestinationOptions:
        """The queue, as a value."""
        return DestinationOptions(
            redis=self.redis,
            access=self.redis_access,
            partitions=Partitions(self.prefix, self.partitions),
            payload_ttl=self.payload_ttl,
            max_queue=self.max_queue,
            max_bytes=self.max_bytes_waiting,
        )

    @property
    def limits(self) -> LimitsOptions | None:
        """The sidecar, as a value; None: every frame is published."""
        if not self.sidecar:
            return None
        return LimitsOptions(
            address=self.sidecar, ca=self.sidecar_ca, certificate=self.sidecar_cert, key=self.sidecar_key
        )
