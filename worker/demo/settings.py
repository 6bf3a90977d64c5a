"""The flags of ``hand-counter demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from process.fields import FiniteSeconds, LogLevel
from process.redis_settings import RedisUrlText
from process.redis_url import parse_redis_url
from worker.settings import WorkerSettings, queue_url_error


def _queue_url(url: str) -> str:
    if error := queue_url_error(parse_redis_url(url)):
        raise ValueError(error)
    return url


class DemoSettings(WorkerSettings):
    """Runs the whole service on this machine, with three drawn cameras, and checks what it does."""

    EXAMPLES: ClassVar[str] = """\
It starts a Valkey, the sidecar and the worker, publishes the cameras, changes their limits while all of that runs, and
ends with a table: what was configured and what was achieved, hands drawn and hands counted. Exit code 0 says that each
rate was within 5 % or 2 frames and that the hands were right in 90 % of the frames.

examples:
  hand-counter demo
  hand-counter demo --annotate demo.jpg              an annotated frame of it
  hand-counter demo --redis-url redis://127.0.0.1:6379/0
                                                     your own Redis; its keys are the demo's own, and gone afterwards
"""

    log_level: LogLevel = "warning"
    redis_url: Annotated[RedisUrlText, AfterValidator(_queue_url)] | None = Field(
        None,
        description="a Redis or Valkey, 7.0 or newer; the embedded one by default",
        json_schema_extra={"metavar": "URL"},
    )
    phase_seconds: FiniteSeconds = Field(
        8.0, ge=2, le=60, description="how long the limits stay as they are, five times"
    )
    tiles: int = Field(1, ge=1, le=8, description="the worker's --tiles; the hands drawn are large")
    seed: int = Field(1, description="another seed is another film")
    models_dir: Path | None = Field(None, description="folder of the hand models; the user's cache by default")
    annotate: Path | None = Field(
        None,
        description="write a counted frame with what was found drawn into it",
        json_schema_extra={"metavar": "FILE"},
    )
