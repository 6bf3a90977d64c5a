"""``hand-counter repartition``: divides a drained queue into another number of partitions."""

import logging

from redis.exceptions import RedisError

from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from worker.command_failure import log_failure
from worker.queue.connections import Connections
from worker.queue.partition_number import PartitionsError
from worker.queue.repartition import Repartition, UndrainedError

logger = logging.getLogger(__name__)

MOST_REASONS = 10
"""Shown of those why a queue can't be divided anew: each of many partitions may have some."""


def run_repartition(redis: RedisUrl, redis_access: RedisAccess, prefix: str, *, partitions: int) -> int:
    """Changes the number of partitions; returns the exit code.

    Args:
        redis: where the queue is.
        redis_access: what connections need besides the URL.
        prefix: of the queue's keys.
        partitions: the new number.
    """
    connections = Connections(redis, redis_access)
    try:
        before = Repartition(connections, prefix, partitions).run()
    except UndrainedError as error:
        for reason in error.reasons[:MOST_REASONS]:
            logger.error("%s", reason)
        if len(error.reasons) > MOST_REASONS:
            logger.error("there are more reasons like these", extra={"reasons": len(error.reasons)})
        logger.error("nothing is changed: stop the publishers, let the workers drain the queue, and stop them")
        return 1
    except (PartitionsError, RedisError) as error:
        return log_failure(logger, error, "run the command again")
    finally:
        connections.close()
    if before == partitions:
        logger.info("the queue already has this number of partitions", extra={"partitions": partitions})
    else:
        logger.info("the queue has another number of partitions", extra={"before": before, "partitions": partitions})
    return 0
