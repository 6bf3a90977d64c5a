"""All sinks of a worker besides Redis."""

import time
from collections.abc import Sequence

from worker.queue.delivery import Counted
from worker.sinks.feed import Feed


class Feeds:
    """Gives each result to all feeds."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds = feeds

    def start(self) -> None:
        """Starts their threads."""
        for feed in self.feeds:
            feed.start()

    def put(self, result: Counted) -> None:
        """Adds a result to each; never waits."""
        for feed in self.feeds:
            feed.put(result)

    def close(self, seconds: float) -> None:
        """Writes what is buffered, within this many seconds for all of them together."""
        deadline = time.monotonic() + seconds
        for feed in self.feeds:
            feed.finish()
        for feed in self.feeds:
            feed.close(deadline - time.monotonic())
