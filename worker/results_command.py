"""``hand-counter results``: prints what Redis keeps."""

from __future__ import annotations

import logging
import sys
import threading

from redis.exceptions import RedisError

from process.output import Output
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from worker.queue.failures import failure_in_words
from worker.queue.keys import Keys
from worker.queue.redis_client import connect
from worker.results_format import formatter, header
from worker.results_reader import ResultsReader, StoredResult
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
    client = connect(redis, redis_access)
    output, line_of, done = Output(sys.stdout), formatter(format_name), threading.Event()
    reader = ResultsReader(client, Keys(prefix), stream)

    def show(stored: StoredResult) -> None:
        output.line(line_of(*stored))
        if output.problem:
            done.set()

    try:
        with stop_signals(done):
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
    except RedisError as error:
        what, about = failure_in_words(error)
        logger.error("%s", what, extra=about)
        return 1
    finally:
        client.close()
    if output.problem:
        logger.error("standard output can't be written", extra={"error": output.problem})
        return 1
    return 0
