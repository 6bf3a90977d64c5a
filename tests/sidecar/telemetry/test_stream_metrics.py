"""Per-stream metrics: bounded in number, and monotonic whatever happens to the streams."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.models.sidecar_world import World

from handcounter.pacing.schedule import Reason
from sidecar.telemetry.stream_metrics import MAKES_ROOM_AFTER_S, OTHER, StreamMetrics


class Scrapes:
    """A world whose metrics are scraped."""

    def __init__(self, max_series: int, max_streams: int = 1000) -> None:
        self.world = World(default=1.0, max_streams=max_streams)
        self.metrics = StreamMetrics(self.world.roster, self.world.table, max_series, clock=lambda: self.world.now)

    def admit(self, stream_name: str, frames: int = 1) -> None:
        """Admits frames of a stream, a second apart; real time goes on."""
        for _ in range(frames):
            self.world.now += 1.0
            reason, _, _ = self.world.decide(stream_name, self.world.now, self.world.now)
            assert reason is Reason.ADMITTED

    def scrape(self, family: str = "sidecar_stream_admitted") -> dict[str, float]:
        """Returns the samples of a family by stream_name."""
        (found,) = (metric for metric in self.metrics.collect() if metric.name == family)
        return {sample.labels["stream_name"]: sample.value for sample in found.samples}


def test_each_stream_has_its_count() -> None:
    """While there is room, every stream has a series from its first frame, and other stays 0."""
    scrapes = Scrapes(max_series=3)
    scrapes.admit("a", 3)
    assert scrapes.scrape() == {"a": 3, OTHER: 0}
    scrapes.admit("a")
    scrapes.admit("b", 2)
    assert scrapes.scrape() == {"a": 4, "b": 2, OTHER: 0}


def test_the_rest_is_other() -> None:
    """With more streams than places, the first ones have series and the others are counted together."""
    scrapes = Scrapes(max_series=2)
    for frames, name in enumerate("abcd", start=1):
        scrapes.admit(name, frames)
    assert scrapes.scrape() == {"a": 1, "b": 2, OTHER: 7}
    assert set(scrapes.scrape("sidecar_stream_fps")) == {"a", "b"}


def test_a_stream_named_other_is_counted_in_other() -> None:
    """No label appears twice, whatever the name of a camera."""
    scrapes = Scrapes(max_series=2)
    scrapes.admit(OTHER, 2)
    scrapes.admit("a")
    assert scrapes.scrape() == {"a": 1, OTHER: 2}


def test_an_evicted_stream_continues_where_it_was() -> None:
    """A stream's count doesn't decrease when it is evicted or when it returns."""
    scrapes = Scrapes(max_series=5, max_streams=2)
    scrapes.admit("a", 5)
    scrapes.scrape()
    scrapes.admit("b")
    scrapes.admit("c")
    assert scrapes.world.roster.streams.get("a") is None
    assert scrapes.scrape() == {"a": 5, "b": 1, "c": 1, OTHER: 0}
    assert set(scrapes.scrape("sidecar_stream_achieved_fps")) == {"b", "c"}
    scrapes.admit("a", 2)
    assert scrapes.scrape()["a"] == 7


def test_a_place_passes_on_without_counting_frames_twice() -> None:
    """The place of an evicted stream goes to one of the others; its series starts at 0, since other has its frames."""
    scrapes = Scrapes(max_series=1, max_streams=2)
    scrapes.admit("a", 5)
    scrapes.admit("b", 3)
    assert scrapes.scrape() == {"a": 5, OTHER: 3}
    scrapes.admit("c", 1)
    assert scrapes.world.roster.streams.get("a") is None
    reported = scrapes.scrape()
    assert reported == {"b": 0, OTHER: 4}
    scrapes.admit("b", 2)
    assert scrapes.scrape() == {"b": 2, OTHER: 4}


def test_a_silent_stream_makes_room() -> None:
    """The series of a camera that was removed ends when another stream needs its place."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("gone", 5)
    scrapes.scrape()
    scrapes.world.now += 2 * MAKES_ROOM_AFTER_S
    assert scrapes.scrape() == {"gone": 5, OTHER: 0}
    scrapes.admit("new", 2)
    reported = scrapes.scrape()
    assert set(reported) == {"new", OTHER}
    scrapes.admit("gone")
    assert scrapes.scrape()[OTHER] == reported[OTHER] + 1


def test_silent_streams_make_no_room_for_silent_streams() -> None:
    """If all streams are silent, no series ends."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("a")
    scrapes.admit("b")
    scrapes.scrape()
    scrapes.world.now += 2 * MAKES_ROOM_AFTER_S
    assert scrapes.scrape() == {"a": 1, OTHER: 1}


def test_a_scrape_during_a_decision_decreases_nothing() -> None:
    """A stream's count that is ahead of the total, or behind it, doesn't decrease other."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("a")
    scrapes.admit("b", 3)
    assert scrapes.scrape() == {"a": 1, OTHER: 3}
    stream = scrapes.world.roster.streams.get("a")
    assert stream is not None
    stream.admitted += 1
    assert scrapes.scrape() == {"a": 2, OTHER: 3}
    scrapes.world.roster.decisions[Reason.ADMITTED] += 1
    assert scrapes.scrape() == {"a": 2, OTHER: 3}


def test_scrapes_run_in_other_threads() -> None:
    """While one thread decides frames and evicts streams, scrapes in another succeed and no series decreases."""
    scrapes = Scrapes(max_series=20, max_streams=30)
    scraped: list[dict[str, float]] = []
    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(lambda: [scraped.append(scrapes.scrape()) for _ in range(100)])
        second = 0
        while not scraping.done():
            second += 1
            scrapes.world.now += 1.0
            names = [f"s{(second // 5 + number) % 60}" for number in range(25)]
            scrapes.world.decide_all(names, [scrapes.world.now] * len(names), scrapes.world.now)
        scraping.result()
    for before, after in itertools.pairwise(scraped):
        assert [name for name in after if after[name] < before.get(name, 0.0)] == []


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(1, 8))
def test_no_series_ever_decreases_and_all_rates_add_up(seed: int, max_series: int, max_streams: int) -> None:
    """Over random frames, evictions, silences and scrapes, series only grow, and together as fast as the decisions."""
    chance = random.Random(seed)
    scrapes = Scrapes(max_series, max_streams)
    before: dict[str, float] = {OTHER: 0.0}
    grown, decided_before = 0.0, 0
    for _ in range(30):
        for _ in range(chance.randrange(12)):
            scrapes.world.now += chance.choice([0.0, 0.3, 2.0, 2 * MAKES_ROOM_AFTER_S])
            name = chance.choice(["a", "b", "c", "d", "e", "f", "g", "h", OTHER])
            scrapes.world.decide(name, scrapes.world.now, scrapes.world.now)
        reported = scrapes.scrape()
        assert len(reported) <= max_series + 1
        kept = [name for name in reported if name in before]
        assert [name for name in kept if reported[name] < before[name]] == []
        decided = scrapes.world.roster.decisions[Reason.ADMITTED]
        grown = sum(reported[name] - before.get(name, 0.0) for name in reported)
        assert grown == decided - decided_before
        before, decided_before = reported, decided


@pytest.mark.parametrize("value", ["2.5", "0", "inf"])
def test_the_configured_fps_is_that_in_force(value: str) -> None:
    """A gauge has the limit at the time of the scrape, including 0 and inf."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("a")
    assert scrapes.scrape("sidecar_stream_fps") == {"a": 1.0}
    scrapes.world.set("a", value)
    assert scrapes.scrape("sidecar_stream_fps") == {"a": float(value)}
