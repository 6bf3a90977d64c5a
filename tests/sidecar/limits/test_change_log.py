"""One log line for each changed limit, and one for all that are too many."""

import logging
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import until

from handcounter.pacing.limits import FpsSource, Limit
from sidecar.limits import change_log
from sidecar.limits.change_log import LINES_PER_S, PERIOD_S, ChangeLog, LineBudget
from sidecar.limits.table import FpsTable


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    """Logs from INFO on, as the sidecar does by default."""
    caplog.set_level("INFO")


def changes(records: list[logging.LogRecord]) -> list[tuple[object, ...]]:
    """The fields of the lines about single changes."""
    lines = [vars(record) for record in records if record.message == "limit changed"]
    return [(line["stream_name"], line["old_fps"], line["new_fps"], line["source"]) for line in lines]


def test_each_change_of_a_watched_stream_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """It has the stream, both fps and the source; an unchanged limit, or that of an unwatched stream, isn't logged."""
    table = FpsTable(
        1.0, lambda _field, _value: None, on_change=ChangeLog().record, clock=time.monotonic, wall_clock=lambda: 0.0
    )
    table.store(["a", "b"], [b"5", None])
    table.store(["a", "b"], [b"5", None])
    assert caplog.messages == []
    table.store(["a", "b"], [b"0.25", b"inf"])
    table.store_wildcard(b"3")
    table.store_wildcard(b"3")
    table.store(["a"], [None])
    table.store_wildcard(None)
    assert changes(caplog.records) == [
        ("a", 5.0, 0.25, "override"),
        ("b", 1.0, math.inf, "override"),
        ("*", 1.0, 3.0, "wildcard"),
        ("a", 0.25, 3.0, "wildcard"),
        ("*", 3.0, 1.0, "default"),
    ]
    table.store(["b"], [None])
    assert changes(caplog.records)[-1] == ("b", math.inf, 1.0, "default")


async def test_a_flood_is_a_few_lines_and_a_count(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first changes are logged, and the number of the others soon after; nothing waits for a further change."""
    monkeypatch.setattr(change_log, "PERIOD_S", 0.05)
    now = 100.0
    log = ChangeLog(lambda: now)
    for number in range(1000):
        log.record(f"cam{number}", 1.0, Limit(2.0, FpsSource.OVERRIDE))
    assert [name for name, *_ in changes(caplog.records)] == [f"cam{number}" for number in range(LINES_PER_S)]
    await until(lambda: "more limits changed" in caplog.messages)
    now += 0.05
    log.record("later", 1.0, Limit(2.0, FpsSource.OVERRIDE))
    (summary,) = [record for record in caplog.records if record.message == "more limits changed"]
    assert summary.changes == 1000 - LINES_PER_S  # type: ignore[attr-defined]
    assert changes(caplog.records)[-1][0] == "later"


async def test_without_info_lines_nothing_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """At a higher level a flood costs nothing, no timer either."""
    caplog.set_level("WARNING")
    log = ChangeLog()
    for _ in range(2 * LINES_PER_S):
        log.record("cam", 1.0, Limit(2.0, FpsSource.OVERRIDE))
    assert log._budget.withheld == 0
    assert caplog.messages == []


@given(st.integers(1, 5), st.lists(st.floats(0.0, 1.5), max_size=60))
def test_the_budget_bounds_the_lines(lines: int, gaps: list[float]) -> None:
    """No period has more lines, a line is withheld only in a full period, and none is lost from the count."""
    budget = LineBudget(lines)
    now, spent, withheld = 1000.0, [], 0
    for gap in gaps:
        now += gap
        if budget.spend(now):
            spent.append(now)
        else:
            withheld += 1
            assert sum(at > budget.ends_at - PERIOD_S - 1e-9 for at in spent) == lines
            assert now < budget.ends_at <= now + PERIOD_S
        assert budget.withheld == withheld
    for first, after_last in zip(spent, spent[2 * lines :], strict=False):
        assert after_last - first >= PERIOD_S - 1e-9
    assert budget.take_withheld() == withheld
    assert budget.take_withheld() == 0
