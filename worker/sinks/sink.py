"""What a sink is. It writes batches of results, in one thread, and knows nothing of buffers, retries and metrics."""

from collections.abc import Sequence
from typing import Protocol

from worker.queue.delivery import Counted


class SinkError(Exception):
    """The results weren't written. The same batch may be written again; the message holds no secrets."""


class RejectedError(SinkError):
    """The other side will never accept this batch, or some of its results, so repeating it is useless."""

    def __init__(self, message: str, results: Sequence[Counted] | None = None) -> None:
        """Takes those that it rejected, if the others are written; None: it rejected all."""
        super().__init__(message)
        self.results = results


class Sink(Protocol):
    """A destination of results. A batch that failed is written again, so a part of it may be written twice."""

    def write(self, results: Sequence[Counted]) -> None:
        """Writes results in their order, connecting first if necessary. Raises SinkError."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...
