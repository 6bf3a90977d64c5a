"""The flags of ``hand-counter repartition``."""

from typing import ClassVar

from pydantic import Field

from worker.queue.partitions import MOST_PARTITIONS
from worker.settings import QueueSettings


class RepartitionSettings(QueueSettings):
    """Divides the queue into another number of partitions, if it is drained and nothing uses it."""

    EXAMPLES: ClassVar[str] = """\
First stop all publishers; then let the workers count the rest (hand-counter run --drain), and stop them too. Results and
dead letters of partitions that are no more stay under their old keys for a day. docs/queue.md has the steps.

examples:
  hand-counter repartition --redis-url redis+cluster://redis:6379 --partitions 64
"""

    partitions: int = Field(ge=1, le=MOST_PARTITIONS, description="how many partitions the queue is to have")
