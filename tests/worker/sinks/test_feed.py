"""A sink's buffer, its retries, and what becomes of results that it doesn't take."""

import functools
import logging
import operator
import threading
from collections.abc import Sequence

import pytest
from support.results import counted, numbered
from support.waiting import wait_until

from process.backoff import Backoff
from worker.queue.delivery import Counted
from worker.sinks import feed as feeds
from worker.sinks.feed import BATCH, Feed
from worker.sinks.feeds import Feeds
from worker.sinks.sink import RejectedError, SinkError


class ListSink:
    """Notes what it gets; raises the errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.batches: list[list[Counted]] = []
        self.closed = False
        self.go_on = threading.Event()
        self.go_on.set()

    def write(self, results: Sequence[Counted]) -> None:
        self.go_on.wait(60.0)
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(list(results))

    def close(self) -> None:
        self.closed = True


def started(sink: ListSink) -> Feed:
    feed = Feed("test", sink, Backoff(0.001, 0.002))
    feed.start()
    return feed


def test_results_arrive_in_order_and_in_batches() -> None:
    """A close writes everything first."""
    sink, results = ListSink(), numbered(2 * BATCH + 1)
    feed = Feed("test", sink)
    for result in results:
        feed.put(result)
    feed.start()
    feed.close(60.0)
    assert [len(batch) for batch in sink.batches] == [BATCH, BATCH, 1]
    assert functools.reduce(operator.iadd, sink.batches, []) == results
    assert (feed.counts.written, feed.counts.dropped, sink.closed) == (2 * BATCH + 1, 0, True)


def test_a_batch_is_repeated_until_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    """After any error; the outage is one line, and its end another."""
    sink = ListSink(SinkError("no route"), RuntimeError("secret"), SinkError("no route"))
    with caplog.at_level(logging.INFO):
        feed = started(sink)
        feed.put(counted())
        wait_until(lambda: feed.counts.written == 1)
        feed.close(60.0)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[0].error == "no route"
    assert "secret" not in caplog.text
    assert feed.counts.problem == ""


def test_a_rejected_batch_is_dropped_and_counted() -> None:
    """The next one isn't delayed by it."""
    sink = ListSink(RejectedError("401"))
    feed = started(sink)
    feed.put(counted(1))
    wait_until(lambda: feed.counts.dropped == 1)
    assert feed.counts.problem == "401"
    feed.put(counted(2))
    feed.close(60.0)
    assert sink.batches == [[counted(2)]]
    assert (feed.counts.written, feed.counts.dropped) == (1, 1)


def test_rejected_results_are_named_and_the_others_count_as_written(caplog: pytest.LogCaptureFixture) -> None:
    """The sink works, so that isn't an outage."""
    bad = counted(2)
    sink = ListSink(RejectedError("too long", [bad]))
    feed = Feed("test", sink)
    for result in numbered(3):
        feed.put(result)
    feed.start()
    feed.close(60.0)
    assert (feed.counts.written, feed.counts.dropped, feed.counts.problem) == (2, 1, "")
    assert [(each.message, each.entry_id, each.stream_name, each.error) for each in caplog.records] == [
        ("a sink rejected a result; it is in Redis all the same", bad.entry_id, bad.stream_name, "too long")
    ]


@pytest.mark.parametrize("bound", ["results", "bytes"])
def test_a_full_buffer_drops_the_oldest(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """And never delays who adds a result."""
    if bound == "results":
        monkeypatch.setattr(feeds, "MOST_RESULTS", 5)
    else:
        monkeypatch.setattr(feeds, "MOST_BYTES", 5 * len(counted(10).result))
    sink = ListSink()
    feed = Feed("test", sink)
    for number in range(10, 30):
        feed.put(counted(number))
    feed.start()
    feed.close(60.0)
    assert functools.reduce(operator.iadd, sink.batches, []) == [counted(number) for number in range(25, 30)]
    assert (feed.counts.written, feed.counts.dropped) == (5, 15)


def test_a_sink_that_hangs_does_not_delay_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """What it didn't take is counted and logged."""
    sink = ListSink()
    sink.go_on.clear()
    feed = started(sink)
    for result in numbered(BATCH + 5):
        feed.put(result)
    wait_until(lambda: feed._in_flight)
    Feeds([feed]).close(0.05)
    assert caplog.records[0].results == BATCH + 5
    sink.go_on.set()


def test_a_sink_that_fails_does_not_delay_the_stop() -> None:
    """It is tried until the time is over."""
    sink = ListSink(*[SinkError("down")] * 100_000)
    feed = started(sink)
    feed.put(counted())
    Feeds([feed]).close(0.3)
    feed._thread.join(60.0)
    assert sink.closed
    assert (feed.counts.written, feed.counts.dropped) == (0, 1)
