import dataclasses

import pytest

from worker.demo.verdict import Row, faults

GOOD = Row(
    phase=2, stream_name="cam1", source_fps=25.0, configured=4.0, set_by="cam1", seconds=8.0, published=200, counted=32,
    true_hands=48, counted_hands=48, right=32,
)  # fmt: skip
ACCOUNTING = {"received": 250, "counted": 40, "skipped:too_soon": 200, "skipped:paused": 10}


@pytest.mark.parametrize(
    ("configured", "source_fps", "seconds", "counted", "off"),
    [
        # exact, and two frames more or less
        (4.0, 25.0, 8.0, 32, False),
        (4.0, 25.0, 8.0, 30, False),
        (4.0, 25.0, 8.0, 34, False),
        (4.0, 25.0, 8.0, 29, True),
        (4.0, 25.0, 8.0, 35, True),
        # 5 % are more than two frames
        (20.0, 25.0, 10.0, 190, False),
        (20.0, 25.0, 10.0, 210, False),
        (20.0, 25.0, 10.0, 189, True),
        (20.0, 25.0, 10.0, 211, True),
        # twice and half the rate
        (4.0, 25.0, 8.0, 64, True),
        (4.0, 25.0, 8.0, 16, True),
        (1.0, 25.0, 8.0, 0, True),
        # no limit exceeds the source
        (100.0, 15.0, 8.0, 120, False),
        (float("inf"), 15.0, 8.0, 118, False),
        (float("inf"), 15.0, 8.0, 110, True),
        # a paused stream has no tolerance
        (0.0, 25.0, 8.0, 0, False),
        (0.0, 25.0, 8.0, 1, True),
        # a fractional number of frames
        (0.3, 25.0, 8.0, 4, False),
        (0.3, 25.0, 8.0, 5, True),
    ],
)
def test_rates(configured: float, source_fps: float, seconds: float, counted: int, off: bool) -> None:
    """A rate may differ by 5 % or 2 frames, whichever is more, from the lower of the limit and the source's fps."""
    row = dataclasses.replace(
        GOOD, configured=configured, source_fps=source_fps, seconds=seconds, counted=counted, right=counted
    )
    found = faults([GOOD, row], ACCOUNTING)
    assert row.off is off
    assert len(found) == off
    if off:
        assert "cam1 in phase 2" in found[0]
        assert f"{counted} frames" in found[0]


@pytest.mark.parametrize(("right", "fine"), [(64, True), (58, True), (57, False), (0, False)])
def test_hands(right: int, fine: bool) -> None:
    """The number of hands must be right in nine of ten counted frames, over all streams."""
    found = faults(
        [dataclasses.replace(GOOD, right=min(right, 32)), dataclasses.replace(GOOD, right=max(0, right - 32))],
        ACCOUNTING,
    )
    assert (found == []) is fine
    assert fine or f"right in {right} of 64 frames" in found[0]


def test_nothing_counted() -> None:
    """A demo without counted frames fails, even if none was expected."""
    assert faults([dataclasses.replace(GOOD, configured=0.0, counted=0, right=0)], ACCOUNTING) == [
        "no frame was counted"
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"skipped:stale": 2, "received": 252}, "2 frames were settled as skipped:stale"),
        ({"skipped:payload_expired": 1, "received": 251}, "1 frames were settled as skipped:payload_expired"),
        ({"dead:failed": 1, "received": 251}, "1 frames were settled as dead:failed"),
        ({"received": 251}, "251 frames were received, but 250 were settled"),
        ({"counted": 39}, "250 frames were received, but 249 were settled"),
    ],
)
def test_accounting(change: dict[str, int], fault: str) -> None:
    """Every frame must be settled as counted or as skipped by its limit, and none may be missing."""
    assert faults([GOOD], ACCOUNTING | change) == [fault]


def test_derived_figures() -> None:
    """Some of the table's columns are derived from the others."""
    assert (GOOD.skipped, GOOD.achieved, GOOD.expected, GOOD.tolerance) == (168, 4.0, 32.0, 2.0)
