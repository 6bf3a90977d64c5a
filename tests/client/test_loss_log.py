"""Which losses of the sidecar are logged."""

import pytest

from handcounter.client.loss_log import LOG_INTERVAL_S, LossLog

LATER = LOG_INTERVAL_S


@pytest.mark.parametrize(
    ("events", "logged"),
    [
        ("lost 0; returned", [1, True]),
        ("lost 0; due 0.2; due 100; returned", [1, 0, 0, True]),  # once
        ("lost 0; returned; lost 1; returned; lost 2; returned", [1, True, 0, False, 0, False]),
        (f"lost 0; returned; lost 1; returned; lost {LATER}; returned", [1, True, 0, False, 2, True]),
        (f"lost 0; returned; lost 1; due 1.2; due {LATER}; due 12; returned", [1, True, 0, 0, 1, 0, True]),  # it lasts
        (f"lost 0; returned; lost 9; returned; lost {LATER + 9}; returned", [1, True, 0, False, 2, True]),
        ("lost 0; returned; lost 100; returned; lost 200; returned", [1, True, 1, True, 1, True]),
    ],
)
def test_losses_that_follow_each_other_are_counted(events: str, logged: list[int | bool]) -> None:
    """The first one is logged at once, later ones every few seconds at most; a return only after a loss that was logged."""
    log, said = LossLog(), list[int | bool]()
    for event in events.split("; "):
        kind, _, now = event.partition(" ")
        said.append(log.returned() if kind == "returned" else getattr(log, kind)(float(now)))
    assert said == logged


def test_flapping_under_load() -> None:
    """Three losses a second for a minute are six pairs of lines with all losses but the last few."""
    log = LossLog()
    losses, ends = [], 0
    for third in range(180):
        losses.append(log.lost(third / 3))
        ends += log.returned()
    lines = [number for number in losses if number]
    assert (len(lines), ends, sum(lines)) == (6, 6, 1 + 5 * 30)
