"""``hand-counter results``: prints what Redis keeps."""

from __future__ import annotations

import logging
import sys
import threading

from redis.exceptions import RedisError

from process.output import Output
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from worker.command_failure import log_failure
from worker.queue.connections import Connections
from worker.queue.partition_number import PartitionsError, read_partitions
from worker.queue.partitions import Partitions
from worker.results_format import formatter, header
from worker.results_reader import MergedResults, ResultsReader, StoredResult
from worker.stop_signals import stop_signals

logger = logging.getLogger(__name__)


def run_results(
    redis: RedisUrl,
    redis_access: RedisAccess,
    prefix: str,
    *,
    stream: str,
    follow: bool,
    last: int | None,
    format_name: str,
) -> int:
    """Prints results and returns the exit code.

    Args:
        redis: where the results are.
        redis_access: what connections need besides the URL.
        prefix: of the queue's keys.
        stream: only this stream's; empty: all.
        follow: whether to wait for new ones, until a signal.
        last: only so many of the newest of those that are kept.
        format_name: text, csv or jsonl.
    """
    connections = Connections(redis, redis_access)
    output, line_of, done = Output(sys.stdout), formatter(format_name), threading.Event()

    def show(stored: StoredResult) -> None:
        output.line(line_of(*stored))
        if output.problem:
            done.set()

    try:
        with stop_signals(done):
            reader = _reader(connections, prefix, stream)
            if head := header(format_name):
                output.line(head)
            if follow and last is None:
                reader.skip_kept()
            else:
                for stored in reader.kept(last):
                    show(stored)
                    if done.is_set():
                        break
            if follow:
                for stored in reader.follow(done):
                    show(stored)
    except (PartitionsError, RedisError) as error:
        return log_failure(logger, error)
    finally:
        connections.close()
    if output.problem and not output.unwanted:
        logger.error("standard output can't be written", extra={"error": output.problem})
    return 1 if output.problem else 0


def _reader(connections: Connections, prefix: str, stream: str) -> ResultsReader | MergedResults:
    """Returns a reader of all partitions, or of the one that the stream belongs to."""
    partitions = read_partitions(connections.client(Partitions(prefix).number_key), prefix)
    keys = [partitions.keys_of(stream)] if stream else list(partitions)
    readers = [ResultsReader(connections.client(each.counts), each, stream) for each in keys]
    return readers[0] if len(readers) == 1 else MergedResults(readers)
