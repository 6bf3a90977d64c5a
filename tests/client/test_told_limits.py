"""What a client of WatchLimits tells."""

import random

from hypothesis import given
from hypothesis import strategies as st

from handcounter.client.told_limits import Changes, FpsSource, StreamLimit, WatchedStreams
from handcounter.pacing.bounds import MAX_BATCH


def watching(*names: str) -> WatchedStreams:
    """Streams that the call has been told of."""
    streams = WatchedStreams()
    for name in names:
        streams.watch(name, 0.0)
    streams.take()
    return streams


def test_the_first_request_may_be_empty() -> None:
    """So that the sidecar answers, and is known to be reachable."""
    streams = WatchedStreams()
    assert streams.take() == Changes({}, [])
    assert streams.take() is None


def test_what_changed_is_told_once() -> None:
    """New streams, other rates, dropped streams."""
    streams = watching("a", "b", "c")
    assert streams.watch("a", 25.0)
    assert not streams.watch("b", 0.0)
    assert streams.unwatch("c")
    assert not streams.unwatch("d")
    assert streams.take() == Changes({"a": 25.0}, ["c"])
    assert streams.take() is None


def test_a_stream_that_is_watched_again() -> None:
    """It is dropped and added, in this order, so that its limit is told anew."""
    streams = watching("a")
    streams.unwatch("a")
    streams.watch("a", 5.0)
    assert streams.take() == Changes({"a": 5.0}, ["a"])


def test_a_new_call_is_told_everything() -> None:
    """Dropped streams aren't mentioned."""
    streams = watching("a", "b")
    streams.unwatch("b")
    streams.begin_call()
    assert streams.take() == Changes({"a": 0.0}, [])


def test_requests_are_bounded() -> None:
    """As many as needed, none too long."""
    names = [f"{number}" for number in range(MAX_BATCH + 1)]
    streams = WatchedStreams()
    for name in names:
        streams.watch(name, 0.0)
    sizes = []
    while (changes := streams.take()) is not None:
        sizes.append(len(changes.source_fps))
    assert sizes == [MAX_BATCH, 1]
    for name in names:
        streams.unwatch(name)
        streams.watch(name, 1.0)
    assert [(len(each.source_fps), len(each.dropped)) for each in (streams.take(), streams.take()) if each] == [
        (0, MAX_BATCH),
        (MAX_BATCH, 1),
    ]


def drawn_step(choose: random.Random) -> tuple[str, float | None] | str:
    """Draws what happens next."""
    if choose.random() < 0.5:
        return choose.choice("abc"), choose.choice([0.0, 5.0, None])
    return choose.choice(["take", "begin_call"])


@given(st.integers(0, 50), st.integers(0, 2**64 - 1))
def test_the_sidecar_watches_what_the_client_does(count: int, seed: int) -> None:
    """Law: when all requests of the last call were handled, both agree."""
    streams, sidecar = WatchedStreams(), dict[str, float]()

    def take() -> bool:
        changes = streams.take()
        if changes is None:
            return False
        for name in changes.dropped:
            sidecar.pop(name, None)
        sidecar.update(changes.source_fps)
        return True

    choose = random.Random(seed)
    for _ in range(count):
        step = drawn_step(choose)
        if step == "take":
            take()
        elif step == "begin_call":
            sidecar.clear()
            streams.begin_call()
        elif step[1] is None:
            streams.unwatch(step[0])
        else:
            streams.watch(step[0], step[1])  # type: ignore[arg-type]
    while take():
        pass
    assert sidecar == streams.source_fps


def test_a_boost_has_ended_at_its_end() -> None:
    """Then what follows it is in force; a limit that isn't a boost's doesn't end."""
    after = StreamLimit(1.0, FpsSource.PATTERN, "", pattern="cam*")
    boost = StreamLimit(9.0, FpsSource.BOOST, "", boost_until=100.0, after_boost=after)
    assert [boost.at(now) for now in (0.0, 99.9, 100.0, 1e9)] == [boost, boost, after, after]
    assert after.at(1e9) is after
