"""When entries arrived, for ids that are right and for those that aren't."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.queue.arrivals import Arrivals

NOW = 1_700_000_000.0


def entry_id(at: float, number: int = 0) -> bytes:
    """The id that Redis would make at this time."""
    return b"%d-%d" % (round(at * 1000), number)


FUTURE = entry_id(NOW + 1e6)


@pytest.mark.parametrize(
    ("id_time", "fields", "arrived_at"),
    [
        (NOW - 3.0, {}, NOW - 3.0),
        (NOW - 3600.0, {}, NOW - 3600.0),
        (NOW + 0.5, {}, NOW + 0.5),  # a clock's inaccuracy
        (NOW + 1e6, {}, NOW),
        (NOW + 1e6, {b"queued_at": b"%f" % (NOW - 28.0)}, NOW - 28.0),
        (NOW - 3.0, {b"queued_at": b"%f" % (NOW + 1e6)}, NOW),
        *((NOW - 3.0, {b"queued_at": odd}, NOW - 3.0) for odd in (b"", b"soon", b"nan", b"inf", b"\xff")),
    ],
)
def test_the_first_read(id_time: float, fields: dict[bytes, bytes], arrived_at: float) -> None:
    """What is known is only that the entry is here now."""
    arrivals = Arrivals()
    arrivals.note_read(entry_id(id_time), NOW)
    assert arrivals.date(entry_id(id_time), fields) == pytest.approx(arrived_at, abs=0.001)


def test_entries_with_ids_in_the_future_are_dated_by_the_reads() -> None:
    """After one such id Redis only counts on; an entry is dated by the read at which it was there, however late it is taken."""
    arrivals = Arrivals()
    arrivals.note_read(entry_id(NOW + 1e6, 0), NOW)
    assert arrivals.date(entry_id(NOW + 1e6, 0), {}) == NOW
    arrivals.note_read(entry_id(NOW + 1e6, 10), NOW + 1.0)
    arrivals.note_read(entry_id(NOW + 1e6, 20), NOW + 2.0)
    arrivals.note_read(entry_id(NOW + 1e6, 20), NOW + 28.0)
    dates = [arrivals.date(entry_id(NOW + 1e6, number), {}) for number in (1, 10, 11, 20)]
    assert dates == [NOW + 1.0, NOW + 1.0, NOW + 2.0, NOW + 2.0]


def test_entries_with_ids_of_the_past_are_as_old_as_the_read_before() -> None:
    """They weren't there then."""
    arrivals = Arrivals()
    arrivals.note_read(b"1-0", NOW)
    assert arrivals.date(b"1-0", {}) == 0.001
    for second in range(5):
        arrivals.note_read(b"1-0", NOW + second)
    arrivals.note_read(b"7-0", NOW + 5.0)
    assert arrivals.date(b"7-0", {}) == NOW + 4.0


def test_a_clock_that_is_set_takes_the_reads_along() -> None:
    """An entry that waits keeps its age."""
    arrivals = Arrivals()
    arrivals.note_read(entry_id(NOW), NOW)
    arrivals.shift(-3600.0)
    arrivals.note_read(entry_id(NOW), NOW - 3600.0 + 5.0)
    assert arrivals.date(entry_id(NOW), {}) == NOW - 3600.0


def test_another_queue_may_have_smaller_ids() -> None:
    """Its entries aren't as old as the reads of the queue before."""
    arrivals = Arrivals()
    arrivals.note_read(FUTURE, NOW)
    arrivals.date(FUTURE, {})
    arrivals.note_read(FUTURE, NOW + 60.0)
    arrivals.note_read(entry_id(NOW + 61.0), NOW + 62.0)
    assert arrivals.date(entry_id(NOW + 61.0), {}) == NOW + 61.0


def test_entries_that_are_delivered_again_are_as_old_as_they_were() -> None:
    """The group was set back."""
    arrivals = Arrivals()
    arrivals.note_read(entry_id(NOW), NOW)
    arrivals.date(entry_id(NOW), {})
    arrivals.note_read(entry_id(NOW), NOW + 60.0)
    arrivals.note_read(entry_id(NOW + 61.0), NOW + 61.0)
    assert arrivals.date(entry_id(NOW + 61.0), {}) == NOW + 61.0
    arrivals.note_read(entry_id(NOW + 61.0), NOW + 62.0)
    assert arrivals.date(entry_id(NOW), {}) == NOW


@settings(max_examples=50)
@given(
    arriving=st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=40),
    batch=st.integers(1, 10),
)
def test_an_entry_arrived_between_the_reads_around_it(arriving: list[tuple[float, float, bool]], batch: int) -> None:
    """Whatever the ids are, as long as they grow; entries may wait for many reads."""
    arrivals = Arrivals()
    now, last_ms, waiting, reads = NOW, 0, [], [NOW]
    arrivals.note_read(b"0-0", NOW)
    for pause, error, is_read in [*arriving, *[(1.0, 0.0, True)] * 50]:
        now += pause
        if not is_read:
            last_ms = max(last_ms + 1, round((now + error) * 1000))
            waiting.append((b"%d-0" % last_ms, now))
            continue
        arrivals.note_read(b"%d-0" % last_ms, now)
        reads.append(now)
        for entry, arrived_at in waiting[:batch]:
            dated = arrivals.date(entry, {})
            before = max(read for read in reads if read <= arrived_at)
            after = min(read for read in reads if read >= arrived_at)
            assert before - 1.001 <= dated <= after + 1.001
        del waiting[:batch]
