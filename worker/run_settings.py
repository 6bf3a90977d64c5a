"""The flags of ``hand-counter run``, and the options that they become."""

import os
import socket
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from handcounter.pacing.bounds import MAX_BATCH
from process.cpus import cpus
from process.fields import FiniteSeconds, Fps, GrpcAddress, HttpAddress, Seconds
from process.settings import Words
from worker.hands_settings import HandsSettings
from worker.options import PipelineOptions, QueueOptions, RunOptions, SidecarOptions, SinkOptions
from worker.picture_header import MAX_PIXELS
from worker.queue.consumer import MOST_BYTES
from worker.queue.partitions import Partitions, parse_share
from worker.settings import PartitionSettings, sidecar_error
from worker.sinks.open_sinks import parse_sink


def _read_text(path: Path, flag: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it isn't UTF-8"
        raise ValueError(f"{flag}: {path} can't be read: {reason}") from None


def _sinks(texts: list[str]) -> list[str]:
    for text in texts:
        parse_sink(text)
    return texts


class RunSettings(HandsSettings, PartitionSettings):
    """Reads frames from the queue, asks the sidecar which of them to process, and counts the hands in those."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter run                                   with the sidecar and Redis on this machine
  hand-counter run --sidecar unix:/run/fps.sock --redis-url redis://redis:6379/0
  hand-counter run --max-age inf --drain             count everything in the queue, then exit
  hand-counter run --backend hamer --hamer-checkpoint hamer.ckpt
  hand-counter run --redis-url redis+cluster://redis:6379 --partitions 64 --own host/4
  WORKER_FPS=0.5 hand-counter run                    every flag is also an environment variable

  redis-cli HGETALL '{hand_counter}:accounting'      received = counted + skipped + dead + pending
  redis-cli XREVRANGE '{hand_counter}:counts' + - COUNT 1
"""

    sidecar: GrpcAddress = Field("127.0.0.1:50051", description="the sidecar: HOST:PORT or unix:/path")
    sidecar_ca: Path | None = Field(
        None, description="CA certificate (PEM file) that verifies the sidecar; enables TLS"
    )
    sidecar_cert: Path | None = Field(None, description="client certificate for the sidecar (PEM file)")
    sidecar_key: Path | None = Field(None, description="private key of the client certificate (PEM file)")
    fps: Fps = Field(1.0, description="fallback fps for unknown streams, with --unknown-streams pace")
    unknown_streams: Literal["wait", "pace"] = Field(
        "wait",
        description="what happens to frames of streams with an unknown limit while the sidecar is unreachable: they wait "
        "up to --max-age, since the stream may be paused, or are paced at --fps",
    )
    own: str = Field(
        "0/1",
        description="which share of the partitions this worker reads: I/N, every N-th one from number I on; host/N takes I "
        "from the end of the host name, as in worker-3 of a StatefulSet",
        json_schema_extra={"metavar": "I/N"},
    )
    http: HttpAddress = "127.0.0.1:9465"
    threads: int = Field(
        default_factory=cpus,
        ge=1,
        le=256,
        description="pictures decoded at the same time; on a CPU also the frames counted at the same time",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that share the work and --threads, each with a Python interpreter of its own: for a GPU that "
        "one interpreter doesn't keep busy",
    )
    batch_size: int = Field(256, ge=1, le=MAX_BATCH, description="most entries read and decided at once")
    max_bytes_in_flight: int = Field(
        MOST_BYTES,
        ge=1,
        description="bytes of pictures inside entries from which no more entries are read; pictures under their own keys "
        "are fetched when their turn comes",
    )
    max_age: Seconds = Field(
        10.0,
        description="seconds after which a live frame is skipped; inf: never, nor is it superseded by a newer one",
    )
    fresh: Seconds = Field(
        0.5,
        description="seconds behind the queue's end from which a worker reads on although all its threads are busy, so that "
        "newer frames supersede those that wait",
    )
    decision_timeout: Seconds = Field(
        0.25, description="seconds without an answer after which the sidecar is considered unreachable"
    )
    sidecar_wait: FiniteSeconds = Field(
        1.0, le=60, description="seconds to wait at start for a sidecar that starts at the same time"
    )
    claim_idle: Seconds = Field(
        30.0, description="seconds without a sign of life after which another worker's frames are adopted"
    )
    max_deliveries: int = Field(3, ge=1, description="attempts before a frame whose workers crash is dead-lettered")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="dead-letter pictures with more pixels")
    consumer: str = Field(
        "",
        description="this worker's name in the consumer group, by which it finds what it held before a restart. "
        "Empty: host name and process id, which stay the same when a container restarts",
    )
    counts_maxlen: int = Field(10_000, ge=1, description="about how many results to keep")
    dead_maxlen: int = Field(10_000, ge=1, description="about how many dead letters to keep")
    keep_payloads: bool = Field(
        False, description="leave the pictures of settled frames in Redis until their TTL, to look at them"
    )
    metrics_streams: int = Field(
        1000, ge=0, le=100_000, description="streams with their own metrics and keys in Redis; all others are one"
    )
    no_previews: bool = Field(
        False, description="keep no annotated pictures in Redis; else the last one of each stream, at most one a second"
    )
    sink: Annotated[Words, AfterValidator(_sinks)] = Field(
        ["redis"],
        description="where results go besides Redis, which always has them; repeatable: jsonl:PATH, jsonl:-, http:URL, "
        "mqtt:URL, sql:URL. Other users can see flags, so a URL with a password belongs in the variable or a file",
        json_schema_extra={"metavar": "KIND:WHERE", "secret": True},
    )
    sink_file: Path | None = Field(None, description="file with one sink a line, in addition to --sink")
    sink_hmac_key: SecretStr | None = Field(
        None, description="key that signs what is sent to http sinks; use the variable or a file"
    )
    sink_hmac_key_file: Path | None = Field(None, description="file with that key")
    no_smoothing: bool = Field(False, description="leave hand_count_smoothed out of the results: it is then null")
    drain: bool = Field(False, description="exit when the queue is empty and everything is settled")
    grace: FiniteSeconds = Field(
        10.0,
        le=3600,
        description="seconds to finish work in progress after SIGTERM or Ctrl-C; a second signal exits at once",
    )
    progress: Seconds = Field(10.0, description="seconds between progress lines; inf: none")

    @model_validator(mode="after")
    def _sidecar_certificates_are_valid(self) -> Self:
        if error := sidecar_error(self.sidecar_ca, self.sidecar_cert, self.sidecar_key):
            raise ValueError(error)
        return self

    @model_validator(mode="after")
    def _owns_partitions(self) -> Self:
        try:
            share = parse_share(self.own, socket.gethostname())
        except ValueError as error:
            raise ValueError(f"--own: {error}") from None
        if not share.partitions(self.partitions):
            raise ValueError(f"--own {self.own}: of {self.partitions} partitions this share has none")
        return self

    @model_validator(mode="after")
    def _sinks_can_be_read(self) -> Self:
        if self.sink_hmac_key and self.sink_hmac_key_file:
            raise ValueError("give the key of the http sinks once: --sink-hmac-key-file or WORKER_SINK_HMAC_KEY")
        if self.processes > 1 and any(spec.kind == "jsonl" for spec in self._sink_options().specs):
            raise ValueError(
                "--processes: each process would need a jsonl file of its own; use another sink, or one process"
            )
        self._sink_options()
        return self

    def _sink_options(self) -> SinkOptions:
        """Reads the files. Raises ValueError, which repeats nothing of them."""
        lines = _read_text(self.sink_file, "--sink-file").splitlines() if self.sink_file else []
        texts = [*self.sink, *(line.strip() for line in lines if line.strip() and not line.startswith("#"))]
        key = self.sink_hmac_key.get_secret_value() if self.sink_hmac_key else ""
        if self.sink_hmac_key_file:
            key = _read_text(self.sink_hmac_key_file, "--sink-hmac-key-file").strip()
            if not key:
                raise ValueError("--sink-hmac-key-file: the file is empty")
        return SinkOptions(specs=tuple(map(parse_sink, texts)), hmac_key=key.encode())

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.hand_counter.run`."""
        return {"hands": self.hands_options, "options": self.options}

    @property
    def options(self) -> RunOptions:
        """All settings but those of the backend as a value."""
        return RunOptions(
            sidecar=SidecarOptions(
                address=self.sidecar,
                ca=self.sidecar_ca,
                certificate=self.sidecar_cert,
                key=self.sidecar_key,
                default_fps=self.fps,
                decision_timeout=self.decision_timeout,
                start_wait=self.sidecar_wait,
            ),
            queue=QueueOptions(
                redis=self.redis,
                access=self.redis_access,
                partitions=Partitions(self.prefix, self.partitions),
                share=parse_share(self.own, socket.gethostname()),
                consumer=self.consumer or f"{socket.gethostname()}-{os.getpid()}",
                counts_maxlen=self.counts_maxlen,
                dead_maxlen=self.dead_maxlen,
                keep_payloads=self.keep_payloads,
            ),
            pipeline=PipelineOptions(
                batch_size=self.batch_size,
                max_bytes_in_flight=self.max_bytes_in_flight,
                max_age=self.max_age,
                fresh=self.fresh,
                claim_idle=self.claim_idle,
                max_deliveries=self.max_deliveries,
                max_pixels=self.max_pixels,
                metrics_streams=self.metrics_streams,
                previews=not self.no_previews,
                smoothing=not self.no_smoothing,
                wait_for_limits=self.unknown_streams == "wait",
                drain=self.drain,
            ),
            sinks=self._sink_options(),
            threads=self.threads,
            processes=self.processes,
            http=self.http,
            grace=self.grace,
            progress=self.progress,
        )
