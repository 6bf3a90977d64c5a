"""Metrics by stream: bounded in number, and monotonic whatever happens to the streams."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.models.sidecar_world import World

from handcounter.pacing.schedule import Reason
from sidecar.telemetry.stream_metrics import GIVES_WAY_AFTER_S, OTHER, StreamMetrics


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
        """The samples of a family by stream_name."""
        (found,) = (metric for metric in self.metrics.collect() if metric.name == family)
        return {sample.labels["stream_name"]: sample.value for sample in found.samples}


def test_each_stream_has_its_count() -> None:
    """While there is room every stream's count is told from its first frame on, and no other is needed."""
    scrapes = Scrapes(max_series=3)
    scrapes.admit("a", 3)
    assert scrapes.scrape() == {"a": 3, OTHER: 0}
    scrapes.admit("a")
    scrapes.admit("b", 2)
    assert scrapes.scrape() == {"a": 4, "b": 2, OTHER: 0}


def test_the_rest_is_other() -> None:
    """More streams than places: the first ones have series, the rest is counted together."""
    scrapes = Scrapes(max_series=2)
    for frames, name in enumerate("abcd", start=1):
        scrapes.admit(name, frames)
    assert scrapes.scrape() == {"a": 1, "b": 2, OTHER: 7}
    assert set(scrapes.scrape("sidecar_stream_fps")) == {"a", "b"}


def test_a_stream_named_other_is_told_with_the_rest() -> None:
    """No label appears twice, whatever a camera is called."""
    scrapes = Scrapes(max_series=2)
    scrapes.admit(OTHER, 2)
    scrapes.admit("a")
    assert scrapes.scrape() == {"a": 1, OTHER: 2}


def test_an_evicted_stream_goes_on_where_it_was() -> None:
    """A stream's count doesn't fall when it is evicted, nor when it comes back."""
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


def test_a_place_is_given_on_without_telling_frames_twice() -> None:
    """An evicted stream's place goes to one of the others, whose series starts at 0 since they were told already."""
    scrapes = Scrapes(max_series=1, max_streams=2)
    scrapes.admit("a", 5)
    scrapes.admit("b", 3)
    assert scrapes.scrape() == {"a": 5, OTHER: 3}
    scrapes.admit("c", 1)
    assert scrapes.world.roster.streams.get("a") is None
    told = scrapes.scrape()
    assert told == {"b": 0, OTHER: 4}
    scrapes.admit("b", 2)
    assert scrapes.scrape() == {"b": 2, OTHER: 4}


def test_a_silent_stream_gives_way() -> None:
    """A place isn't kept for a camera that was taken down; without others in need it is."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("gone", 5)
    scrapes.scrape()
    scrapes.world.now += 2 * GIVES_WAY_AFTER_S
    assert scrapes.scrape() == {"gone": 5, OTHER: 0}
    scrapes.admit("new", 2)
    told = scrapes.scrape()
    assert set(told) == {"new", OTHER}
    scrapes.admit("gone")
    assert scrapes.scrape()[OTHER] == told[OTHER] + 1


def test_places_of_silent_streams_arent_emptied_for_nobody() -> None:
    """If everybody is silent, nobody's series ends."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("a")
    scrapes.admit("b")
    scrapes.scrape()
    scrapes.world.now += 2 * GIVES_WAY_AFTER_S
    assert scrapes.scrape() == {"a": 1, OTHER: 1}


def test_a_scrape_in_the_middle_of_a_decision_lets_nothing_fall() -> None:
    """A stream's count that is ahead of the sum, or behind it, doesn't make other fall."""
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


def test_scrapes_come_from_other_threads() -> None:
    """While frames are decided and streams evicted in one thread, scrapes in another succeed and never fall."""
    scrapes = Scrapes(max_series=20, max_streams=30)
    told: list[dict[str, float]] = []
    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(lambda: [told.append(scrapes.scrape()) for _ in range(100)])
        second = 0
        while not scraping.done():
            second += 1
            scrapes.world.now += 1.0
            names = [f"s{(second // 5 + number) % 60}" for number in range(25)]
            scrapes.world.decide_all(names, [scrapes.world.now] * len(names), scrapes.world.now)
        scraping.result()
    for before, after in itertools.pairwise(told):
        assert [name for name in after if after[name] < before.get(name, 0.0)] == []


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(1, 8))
def test_no_series_ever_falls_and_all_rates_add_up(seed: int, max_series: int, max_streams: int) -> None:
    """Over random frames, evictions, silences and scrapes: series only grow, and together as fast as the decisions."""
    chance = random.Random(seed)
    scrapes = Scrapes(max_series, max_streams)
    before: dict[str, float] = {OTHER: 0.0}
    grown, decided_before = 0.0, 0
    for _ in range(30):
        for _ in range(chance.randrange(12)):
            scrapes.world.now += chance.choice([0.0, 0.3, 2.0, 2 * GIVES_WAY_AFTER_S])
            name = chance.choice(["a", "b", "c", "d", "e", "f", "g", "h", OTHER])
            scrapes.world.decide(name, scrapes.world.now, scrapes.world.now)
        told = scrapes.scrape()
        assert len(told) <= max_series + 1
        kept = [name for name in told if name in before]
        assert [name for name in kept if told[name] < before[name]] == []
        decided = scrapes.world.roster.decisions[Reason.ADMITTED]
        grown = sum(told[name] - before.get(name, 0.0) for name in told)
        assert grown == decided - decided_before
        before, decided_before = told, decided


@pytest.mark.parametrize("value", ["2.5", "0", "inf"])
def test_the_configured_fps_is_that_in_force(value: str) -> None:
    """A gauge tells the limit at the time of the scrape, paused and unlimited ones too."""
    scrapes = Scrapes(max_series=1)
    scrapes.admit("a")
    assert scrapes.scrape("sidecar_stream_fps") == {"a": 1.0}
    scrapes.world.set("a", value)
    assert scrapes.scrape("sidecar_stream_fps") == {"a": float(value)}
