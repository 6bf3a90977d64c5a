import pytest

from console.web.feed.history import EVERY_S, POINTS, History

NOW = 1_700_000_000.0


def _row(name: str, hands: int | None = 1, state: str = "live", limit: object = 2.0) -> dict[str, object]:
    rates = {"source_fps": 25.0, "admitted_fps": 2.0, "counted_fps": 2.0}
    return {"name": name, "hands": hands, "state": state, "limit": limit, **rates}


def test_points_come_every_ten_seconds_also_after_the_clock_was_set_back():
    history = History(10)
    assert history.due(NOW)
    history.note([_row("a")], NOW)
    assert not history.due(NOW + EVERY_S - 0.1)
    assert history.due(NOW + EVERY_S)
    assert history.due(NOW - 100)


def test_the_points_of_a_stream_oldest_first():
    history = History(10)
    for i in range(3):
        history.note([_row("a", hands=i)], NOW + i * EVERY_S)
    assert history.of("a")["hands"] == [0.0, 1.0, 2.0]
    assert history.of("a")["at"] == [NOW, NOW + 10, NOW + 20]


def test_an_hour_is_kept():
    history = History(10)
    for i in range(POINTS + 5):
        history.note([_row("a", hands=i)], NOW + i * EVERY_S)
    assert history.of("a")["hands"] == pytest.approx(list(range(5, POINTS + 5)))


def test_what_is_unknown_or_infinite_is_none():
    history = History(10)
    history.note([_row("a", hands=None, limit="inf"), _row("b", state="unseen")], NOW)
    assert history.of("a")["hands"] == history.of("a")["limit"] == [None]
    assert history.of("b")["hands"] == history.of("nobody")["hands"] == [None]
    assert history.streams == 1


def test_the_number_of_streams_is_bounded_until_one_was_silent_for_an_hour():
    history = History(1)
    history.note([_row("a"), _row("b")], NOW)
    assert history.of("b")["hands"] == [None]
    for i in range(1, POINTS + 2):
        history.note([_row("b", hands=7)], NOW + i * EVERY_S)
    assert history.of("b")["hands"][-1] == 7.0
    assert history.streams == 1
