"""The roster: room for streams, eviction, silence, reports, and the laws of all that."""

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models.sidecar_world import World

from handcounter.pacing.limits import FpsSource
from handcounter.pacing.schedule import ANY_TIME, Reason
from sidecar.deciding.decider import Batch
from sidecar.deciding.roster import (
    ACTIVE_S,
    CORRECTIONS_PER_EVICTION,
    REPORT_GRACE_S,
    SPARE_NAMES,
    LeasedDenials,
    Roster,
)


def test_a_stream_is_evicted_only_after_its_hold() -> None:
    """With no room, a new stream is denied until the other has been silent for a period; then it is admitted."""
    world = World(default=0.5, max_streams=1)
    decide = world.decide
    assert decide("a", 10.0, 1000.0)[0] is Reason.ADMITTED
    assert decide("b", 10.0, 1001.9) == (Reason.TOO_SOON, (0.5, FpsSource.DEFAULT), ANY_TIME)
    assert world.roster.refused == 1
    assert decide("b", 10.0, 1002.0)[0] is Reason.ADMITTED
    assert (len(world.roster), world.roster.evicted) == (1, 1)


def test_a_denied_frame_ends_a_silence_too() -> None:
    """Silence is counted from the last frame, not from the last admission."""
    world = World(default=0.5, max_streams=1)
    world.decide("a", 10.0, 1000.0)
    world.decide("a", 10.5, 1001.0)
    assert world.decide("b", 10.0, 1002.5)[0] is Reason.TOO_SOON
    assert world.decide("b", 10.0, 1003.0)[0] is Reason.ADMITTED


@pytest.mark.parametrize("fps", ["0", "0.001"])
def test_no_hold_is_longer_than_a_minute(fps: str) -> None:
    """A paused or very slow stream may be evicted after 60 s of silence."""
    world = World(default=1.0, max_streams=1)
    world.set("slow", fps)
    world.decide("slow", 10.0, 1000.0)
    assert world.decide("b", 10.0, 1059.9)[0] is Reason.TOO_SOON
    assert world.decide("b", 10.0, 1060.0)[0] is Reason.ADMITTED


def test_the_longest_silent_goes_first() -> None:
    """Of streams with the same fps the one silent the longest is evicted, whatever their age."""
    world = World(default=1.0, max_streams=3)
    for name, now in [("a", 1000.0), ("b", 1001.0), ("c", 1002.0), ("a", 1003.0), ("b", 1003.5)]:
        world.decide(name, now, now)
    for name, now in [("new1", 1005.0), ("new2", 1005.0)]:
        world.decide(name, now, now)
    assert world.roster.page("", "", 10) == ["b", "new1", "new2"]


def test_a_slow_stream_doesnt_keep_the_silent_fast_ones() -> None:
    """The one evictable stream is found behind older ones that aren't."""
    world = World(default=0.1, max_streams=4)
    world.set("fast", "30")
    for name in ("slow1", "slow2", "slow3", "fast"):
        world.decide(name, 10.0, 1000.0)
    assert world.decide("new", 10.0, 1001.0)[0] is Reason.ADMITTED
    assert "fast" not in world.roster.streams


def test_a_full_roster_is_searched_bit_by_bit() -> None:
    """One new stream corrects 64 keys of the heap at most; the next attempts go on and find the evictable one."""
    streams = 3 * CORRECTIONS_PER_EVICTION
    world = World(default=1.0, max_streams=streams)
    names = [f"s{number:04d}" for number in range(streams)]
    world.decide_all(names, [10.0] * streams, 1000.0)
    world.decide_all(names[:-1], [11.5] * (streams - 1), 1001.5)
    reasons = [world.decide("new", 20.0, 1001.6)[0] for _ in range(5)]
    assert reasons[0] is Reason.TOO_SOON
    assert Reason.ADMITTED in reasons


async def test_names_without_a_schedule_dont_pile_up() -> None:
    """Streams that were refused or evicted are forgotten, however many names come by."""
    world = World(default=0.1, max_streams=2)
    for number in range(10_000):
        await world.limiter.decide(Batch([f"s{number}"], [1.0]))
    assert len(world.table.names()) <= 2 + SPARE_NAMES
    world.limiter.sweep()
    assert world.table.names() == {"s0", "s1"}


@settings(max_examples=150)
@given(
    st.sampled_from([20, 60, 250]).flatmap(lambda most: st.integers(1, most)),
    st.integers(0, 2**64 - 1),
    st.integers(1, 3),
    st.sampled_from([0.5, 1.0, 3.0, 20.0]),
)
def test_eviction_never_lets_a_stream_exceed_its_rate(count: int, seed: int, max_streams: int, fps: float) -> None:
    """However streams push each other out, none is admitted more than W * fps + 2.5 times in any W seconds."""
    choose = random.Random(seed)
    longest = choose.choice([0.1, 0.5, 1.5])
    frames = [(choose.randint(0, 5), choose.choice([0.0, 1.0, choose.uniform(0.0, longest)])) for _ in range(count)]
    world = World(fps, max_streams)
    now = 1000.0
    admitted: dict[str, list[float]] = defaultdict(list)
    for stream, step in frames:
        now += step / fps
        name = f"s{stream}"
        if world.decide(name, now, now)[0] is Reason.ADMITTED:
            admitted[name].append(now)
        assert len(world.roster) <= max_streams
    for times in admitted.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= (times[last] - start) * fps + 2.5 + 1e-4


def test_an_evicted_stream_is_reported() -> None:
    """Whoever keeps something of its own about each stream may drop it, and leases on it are revoked."""
    world = World(default=1.0)
    evicted: list[str] = []
    roster = Roster(world.table, world.leases, max_streams=1, on_evicted=evicted.append)
    first = roster.add("a", 1.0, 1000.0)
    assert roster.add("b", 1.0, 1000.5) is None
    assert roster.add("c", 1.0, 1001.0) is not None
    assert (evicted, list(roster.streams), roster.evicted, roster.refused) == (["a"], ["c"], 1, 1)
    assert first not in roster.snapshot()


class Holder:
    """A client with leases."""

    def __init__(self, *leased: str) -> None:
        self.leased = set(leased)

    def revoke(self, stream_name: str) -> None:
        self.leased.remove(stream_name)


def test_the_hold_of_a_leased_stream_includes_the_way_of_its_reports() -> None:
    """A stream that a client denies isn't silent; its silence is known only after the next report."""
    world, holder = World(default=1.0, max_streams=1), Holder("a")
    world.leases.open(holder)
    assert world.roster.add("a", 1.0, 1000.0) is not None
    assert world.roster.add("b", 1.0, 1001.0 + REPORT_GRACE_S - 0.01) is None
    assert holder.leased == {"a"}
    assert world.roster.add("b", 1.0, 1001.0 + REPORT_GRACE_S) is not None
    assert holder.leased == set()


def test_a_sweep_stops_watching_silent_streams() -> None:
    """After a minute without a frame a stream falls asleep and its leases are revoked; a name without a stream is forgotten."""
    world, holder = World(default=1.0), Holder("silent", "active")
    world.leases.open(holder)
    world.table.assume(["silent", "active", "stranger"])
    world.roster.add("silent", 1.0, 1000.0)
    world.roster.add("active", 1.0, 1000.1)
    world.roster.sweep(1000.0 + ACTIVE_S)
    assert set(world.table.watched) == {"silent", "active"}
    world.roster.sweep(1000.05 + ACTIVE_S)
    assert set(world.table.watched) == {"active"}
    assert holder.leased == {"active"}


def report(name: str, age_s: float) -> LeasedDenials:
    return LeasedDenials(name, (0, 0, 3, 0, 0, 1), 9.0, Reason.LATE, age_s)


@pytest.mark.parametrize(
    ("age_s", "newest"),
    [(0.5, (9.0, 1009.5, Reason.LATE)), (2.0, (9.0, 1008.0, Reason.LATE)), (2.5, (5.0, 1008.0, Reason.ADMITTED))],
)
def test_a_report_is_counted(age_s: float, newest: tuple[float, float, Reason]) -> None:
    """Its frames count by reason; its newest frame counts unless a newer one of the stream was decided here."""
    world = World()
    stream = world.roster.add("a", 5.0, 1008.0)
    assert stream is not None
    stream.hear(5.0, 1008.0, Reason.ADMITTED)
    world.roster.record_leased_denials(report("a", age_s), 1010.0)
    assert (stream.heard_ts, stream.heard_at, stream.last_reason) == newest
    assert stream.denied == 4
    assert world.roster.decisions == [0, 0, 3, 0, 0, 1]


def test_a_report_about_an_unknown_stream_counts_in_the_totals() -> None:
    """The stream was evicted in the meantime; nothing is kept for it."""
    world = World()
    world.roster.record_leased_denials(report("gone", 0.0), 1000.0)
    assert (world.roster.decisions, len(world.roster)) == ([0, 0, 3, 0, 0, 1], 0)


def test_expected_names_are_kept() -> None:
    """While a batch waits for limits, no other batch's need for room makes the table forget its names."""
    world = World(max_streams=0)
    world.table.assume(["expected"])
    with world.roster.expecting(["expected"]):
        world.table.assume(f"s{number}" for number in range(SPARE_NAMES))
        with world.roster.expecting(["other"]):
            assert world.table.names() == {"expected"}
    world.roster.sweep(1000.0)
    assert world.table.names() == set()


def test_pages_are_sorted_and_up_to_date() -> None:
    """Pages follow the order of names, hold only the prefix's, and include streams that were added in between."""
    roster = World().roster
    for number in (3, 1, 2, 11, 10):
        roster.add(f"cam{number}", 1.0, 1000.0)
    roster.add("door", 1.0, 1000.0)
    assert roster.page("cam", "", 2) == ["cam1", "cam10"]
    roster.add("cam12", 1.0, 1000.0)
    assert roster.page("cam", "cam10", 10) == ["cam11", "cam12", "cam2", "cam3"]
    assert roster.page("cat", "", 10) == []
