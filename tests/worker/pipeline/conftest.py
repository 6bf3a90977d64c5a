"""A queue in a real Valkey, whose replies can get lost."""

from collections.abc import Iterator

import pytest
from support.pipelines import LossyCommands
from support.processes.workers import QueueServer

from worker.queue.consumer import Queue


@pytest.fixture
def commands(valkey: QueueServer) -> Iterator[LossyCommands]:
    """The queue's commands."""
    commands = LossyCommands(valkey.url)
    yield commands
    commands.close()


@pytest.fixture
def queue(commands: LossyCommands) -> Queue:
    """The queue, as the consumer "me"."""
    return Queue(commands, "me")
