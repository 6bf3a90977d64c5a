"""The flags of ``hand-counter demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from process.fields import FiniteSeconds, LogLevel
from process.redis_settings import RedisUrlText
from process.redis_url import Kind, parse_redis_url
from worker.demo.options import DemoOptions
from worker.hands.effort import Effort
from worker.settings import WorkerSettings


def _queue_url(url: str) -> str:
    if parse_redis_url(url).kind is Kind.CLUSTER:
        raise ValueError("the demo's queue is on one server: give a server instead of a cluster")
    return url


class DemoSettings(WorkerSettings):
    """Runs the whole service on this machine with three simulated cameras, and checks the outcome."""

    EXAMPLES: ClassVar[str] = """\
It starts a Valkey, the sidecar, the worker and the console, publishes the cameras' frames, and changes their limits live.
At the end
a table compares configured and achieved rates, and true and counted hands. Exit code 0 means that each rate was within
5 % or 2 frames, and that the number of hands was right in 90 % of the frames.

examples:
  hand-counter demo
  hand-counter demo --keep                           go on until Ctrl-C, to change limits in the console and elsewhere
  hand-counter demo --annotate demo.jpg              also write an annotated frame
  hand-counter demo --redis-url redis://127.0.0.1:6379/0
                                                     use your own Redis; the demo deletes its keys at the end
"""

    log_level: LogLevel = "warning"
    redis_url: Annotated[RedisUrlText, AfterValidator(_queue_url)] | None = Field(
        None,
        description="Redis or Valkey, 7.0 or newer; default: the embedded Valkey",
        json_schema_extra={"metavar": "URL"},
    )
    phase_seconds: FiniteSeconds = Field(8.0, ge=2, le=60, description="length of each of the five phases")
    effort: Effort = Field(Effort.FAST, description="the worker's --effort; the simulated hands are easy to find")
    seed: int = Field(1, description="seed of the simulated cameras; another seed shows other scenes")
    models_dir: Path | None = Field(None, description="folder of the hand models; default: the user's cache")
    keep: bool = Field(
        False, description="go on after the last phase, until Ctrl-C, with the console open in a browser"
    )
    annotate: Path | None = Field(
        None,
        description="write a counted frame with its detections drawn",
        json_schema_extra={"metavar": "FILE"},
    )

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.demo.command.run_demo`."""
        return {"options": DemoOptions(**super().arguments())}
