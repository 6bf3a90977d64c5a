"""What a worker knows about each stream."""

import pytest
from prometheus_client import CollectorRegistry

from worker.pipeline.stream_metrics import StreamMetrics
from worker.pipeline.stream_stats import MAKES_ROOM_AFTER_S, MOST_UPDATES, OTHER, ROOM_S, UPDATE_S, StreamStats
from worker.queue.delivery import Counted, Dead, Delivery, Skipped, dead_letter
from worker.queue.frame import DeadReason, Frame, SkipReason
from worker.queue.stream_update import StreamUpdate


class Clock:
    """Redis' clock."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats(clock: Clock) -> StreamStats:
    """Room for two streams."""
    return StreamStats(2, clock)


def frame(name: str, at: float) -> Frame:
    return Frame("1-1", name, at, b"key", None, at)


def counted(name: str, hands: int = 1, age: float = 0.25) -> Counted:
    return Counted("1-1", name, 12.5, hands, "{}", b"key", age, 640, 480)


def values(stats: StreamStats, clock: Clock) -> dict[tuple[str, ...], float]:
    """The samples of a scrape, by name without prefix and labels."""
    registry = CollectorRegistry()
    registry.register(StreamMetrics(stats, clock))
    return {
        (s.name.removeprefix("hand_counter_stream_"), *s.labels.values()): s.value
        for metric in registry.collect()
        for s in metric.samples
    }


def play(stats: StreamStats, clock: Clock, seconds: float, fps: float = 15.0, every: int = 5) -> None:
    """A camera whose every n-th frame is counted."""
    for i in range(round(seconds * fps)):
        clock.now += 1 / fps
        stats.received([frame("cam", clock.now)])
        if i % every:
            stats.skipped([Skipped("1-1", SkipReason.TOO_SOON, "cam")])
        else:
            stats.admitted([frame("cam", clock.now)])
            stats.settled([counted("cam", 3, 0.5)])


def test_a_scrape_shows_each_stream(stats: StreamStats, clock: Clock) -> None:
    """Within 2 % of what was played."""
    play(stats, clock, 30.0)
    shown = values(stats, clock)
    assert shown["received_total", "cam"] == 450
    assert shown["admitted_total", "cam"] == shown["counted_total", "cam"] == 90
    assert shown["skipped_total", "cam", "too_soon"] == 360
    assert shown["source_fps", "cam"] == pytest.approx(15.0, rel=0.02)
    assert shown["counted_fps", "cam"] == pytest.approx(3.0, rel=0.02)
    assert (shown["hands", "cam"], shown["age_seconds", "cam"]) == (3, 0.5)


def test_a_silent_stream_has_no_rate(stats: StreamStats, clock: Clock) -> None:
    """Within five seconds; its counters stay."""
    play(stats, clock, 30.0)
    clock.now += 5.0
    shown = values(stats, clock)
    assert {shown[name, "cam"] for name in ("source_fps", "counted_fps", "hands", "age_seconds")} == {0.0}
    assert shown["counted_total", "cam"] == 90


def test_streams_beyond_the_bound_are_one(stats: StreamStats, clock: Clock) -> None:
    """Its counters add up what has no series; a stream of that name is among them."""
    for name in ("a", "b", "c", "d", OTHER):
        stats.received([frame(name, clock.now)] * 2)
        stats.skipped([Skipped("1-1", SkipReason.LATE, name)])
    shown = values(stats, clock)
    assert (shown["received_total", "a"], shown["received_total", OTHER]) == (2, 6)
    assert shown["skipped_total", OTHER, "late"] == 3
    assert not {key for key in shown if key[0] == "source_fps" and key[1] not in ("a", "b")}


def test_streams_that_were_silent_for_long_make_room(stats: StreamStats, clock: Clock) -> None:
    """Ten minutes."""
    for name in ("a", "b"):
        stats.received([frame(name, clock.now)])
    clock.now += 601.0
    stats.received([frame("c", clock.now)])
    assert {stream.name for stream in stats.snapshot()} == {"c", OTHER}


def test_dead_letters_belong_to_their_stream_if_that_is_known(stats: StreamStats, clock: Clock) -> None:
    """Else to the others."""
    stats.settled(
        [
            dead_letter(Delivery("1-1", {b"stream_name": b"cam"}, 1), DeadReason.FAILED, ""),
            Dead("1-2", DeadReason.BAD_STREAM_NAME, "", ()),
        ]
    )
    shown = values(stats, clock)
    assert (shown["dead_total", "cam"], shown["dead_total", OTHER]) == (1, 1)


def test_a_result_is_written_with_what_came_since_the_last_update(stats: StreamStats, clock: Clock) -> None:
    """The last result of a batch, and the numbers of frames."""
    stats.received([frame("cam", clock.now)] * 7)
    stats.admitted([frame("cam", clock.now)] * 2)
    stats.skipped([Skipped("1-1", SkipReason.TOO_SOON, "cam")] * 5)
    (update,) = stats.updates([counted("cam", 1), counted("cam", 2)._replace(preview=b"jpeg")])
    assert (update.received, update.admitted, update.counted, update.skipped) == (7, 2, 2, 5)
    assert (update.fields["hand_count"], update.fields["last_skip"], update.preview) == (2, "too_soon", b"jpeg")
    assert (update.heard_at, update.silent) == (clock.now, False)
    (again,) = stats.updates([counted("cam")])
    assert (again.received, again.admitted, again.counted, again.skipped) == (0, 0, 1, 0)


def test_a_stream_without_results_is_written_once_a_second(stats: StreamStats, clock: Clock) -> None:
    """However many frames are skipped."""
    written: list[StreamUpdate] = []
    for i in range(100):
        clock.now += 0.05
        stats.received([frame("cam", clock.now)])
        stats.skipped([Skipped("1-1", SkipReason.PAUSED, "cam")])
        written += stats.updates([])
        if i == 0:
            assert len(written) == 1
    assert 4 <= len(written) <= 6
    assert sum(update.skipped for update in written) + len(stats.snapshot()) > 80


def test_silence_is_written_once(stats: StreamStats, clock: Clock) -> None:
    """With rates of 0."""
    play(stats, clock, 12.0)
    stats.updates([counted("cam")])
    assert stats.updates([]) == []
    clock.now += 5.0
    (update,) = stats.updates([])
    assert update.silent
    assert (update.fields["source_fps"], update.fields["counted_fps"]) == (0, 0)
    clock.now += 5.0
    assert stats.updates([]) == []


def test_what_could_not_be_written_is_part_of_the_next_update(stats: StreamStats, clock: Clock) -> None:
    """Nothing is forgotten."""
    stats.received([frame("cam", clock.now)] * 3)
    stats.not_written(stats.updates([counted("cam")]))
    stats.received([frame("cam", clock.now)])
    (update,) = stats.updates([counted("cam")])
    assert update.received == 4


def test_skipped_frames_are_written_by_reason(stats: StreamStats, clock: Clock) -> None:
    """Once each, and again if they could not be written."""
    stats.received([frame("cam", clock.now)] * 3)
    stats.skipped([Skipped("1-1", SkipReason.TOO_SOON, "cam"), Skipped("1-2", SkipReason.LATE, "cam")])
    (first,) = stats.updates([counted("cam")])
    assert first.skips == {"too_soon": 1, "late": 1}
    stats.not_written([first])
    stats.skipped([Skipped("1-3", SkipReason.TOO_SOON, "cam")])
    (second,) = stats.updates([counted("cam")])
    assert second.skips == {"too_soon": 2, "late": 1}
    (third,) = stats.updates([counted("cam")])
    assert third.skips == {}


def test_rates_that_are_written_are_those_of_all_workers(stats: StreamStats, clock: Clock) -> None:
    """They come from the totals in Redis."""
    for second in range(30):
        clock.now += 1.0
        stats.received([frame("cam", clock.now)] * 5)
        (update,) = stats.updates([counted("cam")])
        update.totals = (15 * (second + 1), 3 * (second + 1))
        stats.written([update])
    (update,) = stats.updates([counted("cam")])
    assert update.fields["source_fps"] == pytest.approx(15.0, rel=0.02)
    assert update.fields["counted_fps"] == pytest.approx(3.0, rel=0.02)


def test_an_entry_of_an_earlier_life_has_a_stream_too(stats: StreamStats, clock: Clock) -> None:
    """It was heard when it was queued."""
    (update,) = stats.updates([counted("cam", age=2.0)])
    assert update.heard_at == clock.now - 2.0


def test_many_streams_are_written_in_turns(clock: Clock) -> None:
    """A script of Redis writes a bounded number, and each stream has its turn before another one has its second."""
    stats = StreamStats(3 * MOST_UPDATES, clock)
    names = [f"cam{i}" for i in range(2 * MOST_UPDATES + 1)]
    written = []
    for _ in range(3):
        clock.now += UPDATE_S
        stats.received([frame(name, clock.now) for name in names])
        updates = stats.updates([])
        assert len(updates) <= MOST_UPDATES
        written += [update.stream_name for update in updates]
    assert set(written) == set(names)


def test_streams_beyond_the_bound_dont_search_for_room_at_each_frame(clock: Clock) -> None:
    """But from time to time; then those that were silent for long make room."""
    stats = StreamStats(2, clock)
    stats.received([frame("a", clock.now), frame("b", clock.now)])
    clock.now += MAKES_ROOM_AFTER_S - ROOM_S / 2
    stats.received([frame("c", clock.now)])
    clock.now += ROOM_S / 2 + 0.001
    stats.received([frame("d", clock.now)])
    assert {stream.name for stream in stats.snapshot()} == {"a", "b", OTHER}
    clock.now += ROOM_S
    stats.received([frame("e", clock.now)])
    assert {stream.name for stream in stats.snapshot()} == {"e", OTHER}
