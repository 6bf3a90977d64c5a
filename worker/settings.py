"""The worker's settings: one class for each subcommand, each field a flag and an environment variable WORKER_*.

A class's docstring and EXAMPLES are what --help says around the flags. The fields are named as the arguments of the
function that does the work, which gets them as such (``arguments``) and never sees the class.
"""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.fields import FiniteSeconds, Fps, GrpcAddress, HttpAddress, LogFormat, LogLevel, Seconds
from process.pem import pem_error
from process.redis_settings import RedisSettings, RedisUrlText
from process.redis_url import Kind, RedisUrl
from process.settings import Positional
from worker.hands.decision import MIN_SCORE
from worker.queue.keys import DEFAULT_PREFIX


def queue_url_error(url: RedisUrl) -> str | None:
    """Says why a queue can't be there; None if it can."""
    if url.kind is Kind.CLUSTER:
        return "all of a queue is on one server: name that server, or redis+sentinel://, instead of a cluster"
    return None


KeyPrefix = Annotated[
    str, Field(min_length=1, pattern=r"^[^{}]+$", description="prefix of the Redis keys: {prefix}:frames, ...")
]


def cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerSettings(BaseSettings):
    """What all subcommands have in common."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", protected_namespaces=())

    EXAMPLES: ClassVar[str] = ""

    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def arguments(self) -> dict[str, Any]:
        """Gives what the function of the subcommand takes."""
        return self.model_dump(exclude={"log_level", "log_format"})


class QueueSettings(WorkerSettings, RedisSettings):
    """Where the queue is."""

    model_config = WorkerSettings.model_config

    redis_url: RedisUrlText = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey, 7.0 or newer: redis://, rediss:// (TLS), unix://, "
        "redis+sentinel://HOST:PORT,…/SERVICE/DB (rediss+… for TLS)",
        json_schema_extra={"metavar": "URL", "secret": True},
    )
    prefix: KeyPrefix = DEFAULT_PREFIX

    @model_validator(mode="after")
    def _queue_can_be_reached(self) -> Self:
        if error := queue_url_error(self.redis) or self.redis_access.error(self.redis):
            raise ValueError(error)
        return self

    def arguments(self) -> dict[str, Any]:
        """Gives what the function of the subcommand takes; of Redis, the parsed URL and the access."""
        given = {name: value for name, value in super().arguments().items() if name not in RedisSettings.model_fields}
        return {**given, "redis": self.redis, "redis_access": self.redis_access}


class _HandSettings(WorkerSettings):
    """How hands are found."""

    tiles: int = Field(2, ge=1, le=8, description="tiles per side, looked at besides the whole picture; 1: none")
    min_score: float = Field(MIN_SCORE, ge=0, le=1, description="how sure the detector has to be of a hand")
    models_dir: Path | None = Field(None, description="folder of the hand models; the user's cache by default")
    backend: Literal["auto", "palm", "hamer"] = Field(
        "auto", description="what finds the hands; auto: HaMeR where a checkpoint is given, else palm"
    )
    hamer_checkpoint: Path | None = Field(None, description="hamer.ckpt, with model_config.yaml beside or above it")
    mano: Path | None = Field(None, description="MANO_RIGHT.pkl, where the checkpoint lacks the hand model")
    device: str = Field("auto", description="what HaMeR runs on: auto, cpu, cuda or cuda:N")
    mesh: bool = Field(False, description="have HaMeR's meshes, too: in the results, and drawn")

    @model_validator(mode="after")
    def _hamer_has_its_checkpoint(self) -> Self:
        if self.backend == "hamer" and self.hamer_checkpoint is None:
            raise ValueError("--backend hamer needs --hamer-checkpoint FILE")
        return self


class RunSettings(_HandSettings, QueueSettings):
    """Reads frames from the queue, asks the sidecar which of them to process, and counts the hands in those."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter run                                   the sidecar and Redis on this machine
  hand-counter run --sidecar unix:/run/fps.sock --redis-url redis://redis:6379/0
  hand-counter run --max-age inf --drain             count all that is in the queue, then end
  hand-counter run --backend hamer --hamer-checkpoint hamer.ckpt
  WORKER_FPS=0.5 hand-counter run                    every flag is also an environment variable

  redis-cli HGETALL '{hand_counter}:accounting'      received = counted + skipped + dead + those in work
  redis-cli XREVRANGE '{hand_counter}:counts' + - COUNT 1
"""

    sidecar: GrpcAddress = Field("127.0.0.1:50051", description="the sidecar: HOST:PORT or unix:/path")
    sidecar_ca: Path | None = Field(
        None,
        description="PEM file of those who may sign the sidecar's certificate; with it the sidecar is asked by TLS",
    )
    sidecar_cert: Path | None = Field(None, description="PEM file of the certificate to show to the sidecar")
    sidecar_key: Path | None = Field(None, description="PEM file of that certificate's key")
    fps: Fps = Field(
        1.0, description="what a stream is paced at while the sidecar is away and never told anything about it"
    )
    http: HttpAddress = "127.0.0.1:9465"
    threads: int = Field(default_factory=cpus, ge=1, le=256, description="frames counted at the same time")
    batch_size: int = Field(256, ge=1, le=4096, description="the most entries read and decided at once")
    max_age: Seconds = Field(10.0, description="seconds after which a frame in the queue is skipped; inf: never")
    decision_timeout: Seconds = Field(0.25, description="seconds after which a silent sidecar counts as away")
    sidecar_wait: FiniteSeconds = Field(
        1.0, le=60, description="seconds to wait at the start for a sidecar that is starting too"
    )
    claim_idle: Seconds = Field(
        30.0, description="seconds without a sign of life after which the frames of another worker are taken over"
    )
    max_deliveries: int = Field(3, ge=1, description="how many dead workers it takes to give up a frame")
    max_pixels: int = Field(50_000_000, ge=1, description="a larger picture is not decoded")
    consumer: str = Field(
        "",
        description="this worker's name in the consumer group; what it held before a restart is found by it. "
        "Empty: host and process id, which stay the same where a container restarts",
    )
    counts_maxlen: int = Field(10_000, ge=1, description="about how many results are kept")
    dead_maxlen: int = Field(10_000, ge=1, description="about how many dead letters are kept")
    drain: bool = Field(False, description="end when the queue is empty and everything in it is settled")
    grace: FiniteSeconds = Field(
        10.0,
        le=3600,
        description="seconds to finish what is held after SIGTERM or Ctrl-C; a second signal ends it at once",
    )
    progress: Seconds = Field(10.0, description="seconds between two lines about the progress; inf: none")

    @model_validator(mode="after")
    def _sidecar_can_be_trusted(self) -> Self:
        if (self.sidecar_cert is None) != (self.sidecar_key is None):
            raise ValueError("--sidecar-cert and --sidecar-key must be given together")
        if self.sidecar_cert and not self.sidecar_ca:
            raise ValueError("--sidecar-cert needs --sidecar-ca: without TLS no certificate is shown")
        # gRPC would say nothing, and connect never.
        if error := pem_error(self.sidecar_ca, self.sidecar_cert, self.sidecar_key):
            raise ValueError(error)
        return self


class DetectSettings(_HandSettings):
    """Finds the hands in image files, without a queue or a limit."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter detect photo.jpg
  hand-counter detect photos/ --draw out/            annotated copies of all pictures in the folder
  hand-counter detect photo.jpg --hamer-checkpoint hamer.ckpt --mesh --draw out/
  hand-counter detect a.jpg b.png --json             {image: [{"box": ..., "is_right": ..., "score": ...}, ...]}
"""

    images: Annotated[list[str], Positional()] = Field(description="image files, or folders of them")
    json_output: bool = Field(False, description="print one JSON object", json_schema_extra={"flag": "--json"})
    draw_dir: Path | None = Field(
        None, description="folder for annotated pictures", json_schema_extra={"flag": "--draw", "metavar": "DIR"}
    )


class ModelsFetchSettings(WorkerSettings):
    """Downloads the hand models (36 MB, once) and checks them; or, with --hamer, HaMeR's weights."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter models fetch
  hand-counter models fetch --models-dir /models     for an image, or a machine without a network
  hand-counter models fetch --hamer                  HaMeR's weights (6 GB), after consent to their licences
"""

    models_dir: Path | None = Field(None, description="folder of the hand models; the user's cache by default")
    hamer: bool = Field(False, description="fetch HaMeR's official weights instead; asks for consent to their licences")
    accept_licence: bool = Field(False, description="consent to the licences of HaMeR's weights without being asked")
