"""Which losses of the sidecar are logged."""

import pytest

from handcounter.client.loss_log import LOG_INTERVAL_S, LossLog

LATER = LOG_INTERVAL_S


@pytest.mark.parametrize(
    ("events", "logged"),
    [
        ("lost 0; found", [1, True]),
        ("lost 0; due 0.2; due 100; found", [1, 0, 0, True]),  # once
        ("lost 0; found; lost 1; found; lost 2; found", [1, True, 0, False, 0, False]),
        (f"lost 0; found; lost 1; found; lost {LATER}; found", [1, True, 0, False, 2, True]),
        (f"lost 0; found; lost 1; due 1.2; due {LATER}; due 12; found", [1, True, 0, 0, 1, 0, True]),  # it lasts
        (f"lost 0; found; lost 9; found; lost {LATER + 9}; found", [1, True, 0, False, 2, True]),
        ("lost 0; found; lost 100; found; lost 200; found", [1, True, 1, True, 1, True]),
    ],
)
def test_losses_that_follow_each_other_are_counted(events: str, logged: list[int | bool]) -> None:
    """The first one is logged at once, later ones every few seconds at most; a return only after a loss that was logged."""
    log, said = LossLog(), list[int | bool]()
    for event in events.split("; "):
        kind, _, now = event.partition(" ")
        said.append(log.found() if kind == "found" else getattr(log, kind)(float(now)))
    assert said == logged


def test_flapping_under_load() -> None:
    """Three losses a second for a minute are six pairs of lines with all losses but the last few."""
    log = LossLog()
    losses, ends = [], 0
    for third in range(180):
        losses.append(log.lost(third / 3))
        ends += log.found()
    lines = [number for number in losses if number]
    assert (len(lines), ends, sum(lines)) == (6, 6, 1 + 5 * 30)
