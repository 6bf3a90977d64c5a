"""Two consumers of one queue."""

from collections.abc import Iterator

import pytest
from support.processes.workers import KEYS, QueueServer

from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.redis_client import connect


@pytest.fixture
def queue(valkey: QueueServer) -> Iterator[Queue]:
    """The queue, as the consumer "me"."""
    consumer = Queue(Commands(connect(valkey.url), KEYS), "me")
    yield consumer
    consumer.close()


@pytest.fixture
def other(valkey: QueueServer) -> Iterator[Queue]:
    """The same queue, as the consumer "other"."""
    consumer = Queue(Commands(connect(valkey.url), KEYS), "other")
    yield consumer
    consumer.close()
