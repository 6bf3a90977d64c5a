"""What users choose, as values: built from the settings in one place, and passed down to the part that they concern."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from worker.hands.effort import Effort

if TYPE_CHECKING:
    from pathlib import Path

    from process.redis_access import RedisAccess
    from process.redis_url import RedisUrl
    from worker.queue.partitions import Partitions, Share
    from worker.sinks.open_sinks import SinkSpec

HamerPrecision: TypeAlias = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class HandsOptions:
    """How hands are found; see :mod:`worker.backend`."""

    backend: str = "auto"
    """A name of BACKENDS, or auto."""
    effort: Effort = Effort.BALANCED
    """How much work the palm detector does for a picture."""
    min_score: float | None = None
    """Lowest score of a hand, 0 to 1; None: the effort's own."""
    models_dir: Path | None = None
    """Folder of the palm detector's models; None: the user's cache."""
    hamer_checkpoint: Path | None = None
    mano: Path | None = None
    """MANO_RIGHT.pkl, if the checkpoint lacks the hand model."""
    device: str = "auto"
    """What the networks run on: auto, cpu, cuda or cuda:N."""
    mesh: bool = False
    """Whether HaMeR's hands come with their meshes."""
    hamer_precision: HamerPrecision = "auto"
    """What HaMeR's backbone computes in; auto: what is fastest on the device."""
    hamer_compile: Literal["auto", "on", "off"] = "auto"
    """Whether HaMeR's backbone is compiled by torch; auto: on a GPU, if that is faster."""
    hamer_cache: Path | None = None
    """Where it is kept what was measured for that, and what was compiled; None: the user's cache."""
    num_threads: int = 1
    """Threads of one palm detector; 1 if frames are what runs in parallel."""


@dataclass(frozen=True, kw_only=True)
class SidecarOptions:
    """Where the sidecar is, and what happens without it."""

    address: str
    """HOST:PORT or unix:/path."""
    ca: Path | None
    """Enables TLS."""
    certificate: Path | None
    key: Path | None
    default_fps: float
    """The fallback fps for streams that the sidecar has never decided about."""
    decision_timeout: float
    """Seconds."""
    start_wait: float
    """Seconds to wait at start for a sidecar that starts at the same time."""


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Where the queue is, and what is kept in it."""

    redis: RedisUrl
    access: RedisAccess
    partitions: Partitions
    share: Share
    """Which of them this worker reads."""
    consumer: str
    """This worker's name in the consumer group."""
    counts_maxlen: int
    """About how many results are kept."""
    dead_maxlen: int
    """About how many dead letters are kept."""
    keep_payloads: bool
    """Whether pictures stay until their TTL, although their frame is settled."""


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What happens to deliveries."""

    batch_size: int
    """The most entries that are read and decided at once."""
    max_bytes_in_flight: int
    """About the most bytes of pictures inside entries that are held; one picture may exceed it."""
    max_age: float
    """Seconds after which a live frame is skipped; infinity: it is neither skipped nor superseded."""
    fresh: float
    """Seconds by which the newest entry that was read may be old before more are read although enough frames wait."""
    claim_idle: float
    """Seconds without a sign of life after which deliveries of another worker are adopted."""
    max_deliveries: int
    """How often an entry is delivered before it is dead-lettered."""
    max_pixels: int
    """A larger picture isn't decoded."""
    metrics_streams: int
    """How many streams have their own metrics and their own keys in Redis."""
    previews: bool
    """Whether the last annotated picture of each stream is kept in Redis."""
    smoothing: bool
    """Whether results have smoothed counts."""
    wait_for_limits: bool
    """Whether frames of streams with an unknown limit wait; else they are paced at the fallback fps."""
    drain: bool
    """Whether to stop when the queue is empty and everything is settled."""


@dataclass(frozen=True, kw_only=True)
class SinkOptions:
    """Where results go besides Redis."""

    specs: tuple[SinkSpec, ...] = ()
    hmac_key: bytes = field(default=b"", repr=False)
    """Signs what is sent by HTTP; empty: nothing is signed."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A worker, except for what finds the hands."""

    sidecar: SidecarOptions
    queue: QueueOptions
    pipeline: PipelineOptions
    sinks: SinkOptions
    threads: int
    """Pictures that are decoded at the same time; on a CPU also the frames that are counted."""
    processes: int
    """How many processes share the work."""
    http: str
    """HOST:PORT of /metrics and /healthz; empty: not served."""
    grace: float
    """Seconds that a stop waits for work in progress."""
    progress: float
    """Seconds between progress lines; infinity for none."""
    in_group: bool = False
    """Whether it is one of several processes, which the first of them has exit at once."""

    def of_process(self, number: int) -> RunOptions:
        """Returns what one of several processes is: a consumer of its own, with its part of the threads."""
        return replace(
            self,
            queue=replace(self.queue, consumer=f"{self.queue.consumer}-{number}"),
            threads=max(1, self.threads // self.processes + (number < self.threads % self.processes)),
            processes=1,
            in_group=True,
            http="127.0.0.1:0" if self.http else "",
        )
