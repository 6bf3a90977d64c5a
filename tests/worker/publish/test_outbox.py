import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import wait_until

from worker.publish.outbox import Outbox, Outlet
from worker.publish.source import Captured


class Clock:
    """A simulated clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def frame(ts: float, size: int = 10) -> Captured:
    """Returns a frame of so many bytes."""
    return Captured(ts, b"x" * size)


def outbox(max_bytes: int = 1000, clock: Clock | None = None) -> Outbox:
    """Returns an outbox."""
    return Outbox(clock or Clock(), max_bytes)


def drain(box: Outbox, outlets: list[Outlet]) -> dict[str, list[float]]:
    """Closes the outlets and publishes what is in them; returns their frames' times."""
    published: dict[str, list[float]] = {outlet.stream_name: [] for outlet in outlets}
    for outlet in outlets:
        outlet.close()
    while not all(outlet.done.is_set() for outlet in outlets):
        for outlet, taken in box.take(100, 10**9):
            published[outlet.stream_name].append(taken.ts)
            outlet.settle()
    return published


def test_a_live_outlet_keeps_the_newest() -> None:
    """A full outlet drops its oldest frame and counts it; the capture never waits."""
    box = outbox()
    outlet = box.open("a", size=3)
    assert all(outlet.put(frame(index)) for index in range(5))
    assert drain(box, [outlet]) == {"a": [2, 3, 4]}
    assert (outlet.dropped, outlet.published, outlet.published_bytes) == (2, 3, 30)
    assert not outlet.put(frame(5))


def test_a_film_waits() -> None:
    """A full outlet makes the capture wait until there is room; nothing is dropped."""
    box = outbox()
    outlet, put = box.open("a", size=2), []
    outlet.live = False
    thread = threading.Thread(target=lambda: [put.append(outlet.put(frame(index))) for index in range(5)])
    thread.start()
    wait_until(lambda: len(put) == 2)
    for count in (3, 4, 5):
        ((taken, _),) = box.take(9, 999)
        wait_until(lambda count=count: len(put) == count)
        taken.settle()
    thread.join()
    assert drain(box, [outlet]) == {"a": [3, 4]}
    assert outlet.dropped == 0


def test_a_film_waits_for_the_bytes_of_all() -> None:
    """It has one frame here at least, however full the others are."""
    box = outbox(max_bytes=100)
    camera, film = box.open("camera"), box.open("film")
    film.live = False
    for index in range(10):
        camera.put(frame(index))
    put: list[bool] = []
    thread = threading.Thread(target=lambda: [put.append(film.put(frame(index))) for index in range(2)])
    thread.start()
    wait_until(lambda: len(put) == 1)
    for taken, _ in box.take(9, 999):
        taken.settle()
    thread.join()
    assert put == [True, True]


def test_closing_ends_all_waits() -> None:
    """Closing ends the wait of a capture for room, and of a sender for frames."""
    box = outbox()
    full, ends = box.open("full", size=1), []
    full.live = False
    full.put(frame(0))
    waits = threading.Thread(target=lambda: ends.append(full.put(frame(1))))
    waits.start()
    full.close(discard=True)
    waits.join()
    takes = threading.Thread(target=lambda: ends.append(box.take(1, 1)))
    takes.start()
    box.close()
    takes.join()
    assert ends == [False, []]
    assert full.dropped == 1
    assert full.done.is_set()


def test_the_bytes_of_all_are_bounded() -> None:
    """The outlet that holds most drops its oldest frame; a film's aren't dropped."""
    box = outbox(max_bytes=100)
    small, large, film = box.open("small"), box.open("large"), box.open("film")
    film.live = False
    film.put(frame(0, 20))
    small.put(frame(0, 10))
    for index in range(6):
        large.put(frame(index, 20))
        assert box.bytes <= 100
    small.put(frame(1, 10))
    assert (small.dropped, large.dropped, film.dropped) == (0, 3, 0)
    assert drain(box, [small, large, film]) == {"small": [0, 1], "large": [3, 4, 5], "film": [0]}


def test_a_picture_that_is_larger_than_the_bound_is_published() -> None:
    """Alone."""
    box = outbox(max_bytes=100)
    outlet = box.open("a")
    outlet.put(frame(0))
    outlet.put(frame(1, 200))
    assert drain(box, [outlet]) == {"a": [1]}


def test_streams_take_turns() -> None:
    """At most one frame of each at a time, so that its place in the queue is known if a reply is lost."""
    box = outbox()
    one, two, three = (box.open(name) for name in ("one", "two", "three"))
    for index in range(2):
        for outlet in (one, two, three):
            outlet.put(frame(index))
    assert [(outlet.stream_name, each.ts) for outlet, each in box.take(2, 999)] == [("one", 0), ("two", 0)]
    one.settle()
    assert [(outlet.stream_name, each.ts) for outlet, each in box.take(9, 999)] == [("three", 0), ("one", 1)]
    assert two.sending == frame(0)


def test_a_batch_is_bounded_in_bytes() -> None:
    """By one frame more or less."""
    box = outbox()
    for name in "abcd":
        box.open(name).put(frame(0, 100))
    assert len(box.take(9, 150)) == 2


def test_a_frame_that_failed_is_sent_again_first() -> None:
    """At its time; it isn't dropped for newer ones, because it may be in Redis already."""
    clock = Clock()
    box = outbox(clock=clock)
    one, two = box.open("one", size=2), box.open("two")
    one.put(frame(0))
    ((_, taken),) = box.take(1, 1)
    one.give_back(5.0)
    for index in range(1, 5):
        one.put(frame(index))
    two.put(frame(0))
    assert [outlet for outlet, _ in box.take(9, 999)] == [two]
    two.settle()
    clock.now = 5.0
    assert box.take(9, 999) == [(one, taken)]
    one.settle()
    assert one.dropped == 2
    assert drain(box, [one]) == {"one": [3, 4]}


@pytest.mark.parametrize("meanwhile", ["waits", "is sent", "failed"])
def test_a_stop_discards_what_was_not_published(meanwhile: str) -> None:
    """Also a frame that is being sent, unless that succeeds."""
    box = outbox()
    outlet = box.open("a")
    outlet.put(frame(0))
    if meanwhile != "waits":
        box.take(1, 1)
    if meanwhile == "failed":
        outlet.give_back(0.0)
    outlet.close(discard=True)
    assert outlet.done.is_set() is (meanwhile != "is sent")
    if meanwhile == "is sent":
        outlet.give_back(0.0)
    assert outlet.done.is_set()
    assert (outlet.published, outlet.dropped) == (0, 1)


def test_a_count_ends_it() -> None:
    """After so many published frames the rest is discarded."""
    box = outbox()
    outlet = box.open("a", most=2)
    for index in range(5):
        outlet.put(frame(index))
    assert drain(box, [outlet]) == {"a": [0, 1]}
    assert (outlet.published, outlet.dropped) == (2, 3)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 60)),
            st.tuples(st.just("take"), st.integers(1, 4), st.integers(1, 100)),
            st.tuples(st.just("settle"), st.booleans(), st.just(0)),
        ),
        max_size=60,
    )
)
def test_every_frame_is_published_or_dropped(steps: list[tuple[str, int, int]]) -> None:
    """Exactly once, in its stream's order; and the bytes that wait are bounded and add up."""
    box = outbox(max_bytes=120)
    outlets = [box.open(name, size=3) for name in "abc"]
    put, published = [0, 0, 0], [[], [], []]
    for what, first, second in steps:
        if what == "put":
            outlets[first].put(frame(put[first], second))
            put[first] += 1
        elif what == "take" and any(outlet.bytes and not outlet.sending for outlet in outlets):
            box.take(first, second)
        elif what == "settle":
            for index, outlet in enumerate(outlets):
                if outlet.sending and first:
                    published[index].append(outlet.sending.ts)
                    outlet.settle()
                elif outlet.sending:
                    outlet.give_back(0.0)
        assert box.bytes == sum(outlet.bytes for outlet in outlets) <= 120
    for index, outlet in enumerate(outlets):
        if outlet.sending:
            published[index].append(outlet.sending.ts)
            outlet.settle()
    for index, (outlet, rest) in enumerate(zip(outlets, drain(box, outlets).values(), strict=True)):
        published[index] += rest
        assert published[index] == sorted(set(published[index]))
        assert outlet.published == len(published[index])
        assert outlet.published + outlet.dropped == put[index]
    assert box.bytes == 0
