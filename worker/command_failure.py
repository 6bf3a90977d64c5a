"""What a command that a person has run says when the queue can't be used."""

import logging

import redis

from worker.queue.failures import failure_in_words
from worker.queue.partition_number import PartitionsError


def log_failure(logger: logging.Logger, error: PartitionsError | redis.RedisError, todo: str = "") -> int:
    """Logs why a command failed, and returns its exit code.

    Args:
        logger: the command's.
        error: what was raised.
        todo: what to do now, if Redis failed.
    """
    if isinstance(error, PartitionsError):
        logger.error("%s", error)
    else:
        what, about = failure_in_words(error)
        logger.error("%s", f"{what}; {todo}" if todo else what, extra=about)
    return 1
