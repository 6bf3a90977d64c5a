"""What users of ``hand-counter publish`` choose, as values: built from the flags in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worker.publish.outbox import OUTBOX_BYTES

if TYPE_CHECKING:
    from process.redis_access import RedisAccess
    from process.redis_url import RedisUrl
    from worker.queue.partitions import Partitions


@dataclass(frozen=True, slots=True)
class Reception:
    """How network sources are received."""

    transport: str = "tcp"
    """Of RTSP: ``tcp`` or ``udp``."""
    timeout: float = 5.0
    """Seconds of silence after which opening or reading fails."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Where the frames come from, and how they are read."""

    source: str = field(repr=False)
    """A file, a folder, a webcam's index, a URL or a simulated camera; see `parse_source`. It may hold a password."""
    password_file: Path | None = None
    """Its content replaces {PASSWORD} in a URL; read for each connection."""
    password: str | None = field(default=None, repr=False)
    """The same, if it isn't in a file."""
    loop: bool = False
    """Whether a file or folder starts over at its end."""
    fast: bool = False
    """Whether frames are published without waiting for their capture times."""
    folder_fps: float = 10.0
    """Pictures per second of a folder, and requests per second to a camera that answers with one picture."""
    watch: bool = False
    """Whether the pictures that arrive in a folder are published, instead of those that are there."""
    reception: Reception = field(default_factory=Reception)
    """How network sources are received."""
    jpeg_quality: int = 85
    """Of frames that must be encoded, 1 to 100."""


@dataclass(frozen=True, kw_only=True)
class CameraOptions:
    """A camera and its stream."""

    stream_name: str
    source: SourceOptions
    labels: Mapping[str, str] = field(default_factory=dict)
    """What its owner says about it, for operators' tools."""


@dataclass(frozen=True, kw_only=True)
class DestinationOptions:
    """The queue, and how frames are kept in it."""

    redis: RedisUrl
    access: RedisAccess
    partitions: Partitions
    payload_ttl: float
    """Seconds after which a picture that no worker has fetched is deleted."""
    max_queue: int
    """About how many entries the queue keeps, of all streams."""
    max_bytes: int = OUTBOX_BYTES
    """Of the pictures that wait for Redis."""


@dataclass(frozen=True, kw_only=True)
class LimitsOptions:
    """The sidecar that tells limits."""

    address: str
    """HOST:PORT or unix:/path."""
    ca: Path | None = None
    """Enables TLS."""
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """A publisher."""

    camera: CameraOptions
    destination: DestinationOptions
    count: int | None
    """Published frames after which it stops."""
    duration: float
    """Seconds, by the frames' own clock, after which it stops."""
    limits: LimitsOptions | None = None
    """None: every frame is published."""
    progress: float
    """Seconds between progress lines; infinity for none."""


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """A process with many cameras."""

    cameras: Path
    """The file that lists them."""
    destination: DestinationOptions
    limits: LimitsOptions | None
    """None: every frame is published."""
    check: bool
    """Whether the file is only checked."""
    http: str
    """HOST:PORT of /metrics and /healthz; empty: none."""
    metrics_cameras: int
    """How many cameras have metrics of their own."""
    progress: float
    """Seconds between progress lines; infinity for none."""
