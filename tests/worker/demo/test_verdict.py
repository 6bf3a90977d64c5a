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
        # exactly, and two frames either way
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
        # twice, half
        (4.0, 25.0, 8.0, 64, True),
        (4.0, 25.0, 8.0, 16, True),
        (1.0, 25.0, 8.0, 0, True),
        # no limit gives more than the source has
        (100.0, 15.0, 8.0, 120, False),
        (float("inf"), 15.0, 8.0, 118, False),
        (float("inf"), 15.0, 8.0, 110, True),
        # a paused stream has no frames at all
        (0.0, 25.0, 8.0, 0, False),
        (0.0, 25.0, 8.0, 1, True),
        # seconds that make no whole number of frames
        (0.3, 25.0, 8.0, 4, False),
        (0.3, 25.0, 8.0, 5, True),
    ],
)
def test_rates(configured: float, source_fps: float, seconds: float, counted: int, off: bool) -> None:
    """A rate is off by more than 5 % or 2 frames, whichever is more, of what was configured and the source has."""
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
    """The hands must be right in nine of ten counted frames, over all streams."""
    found = faults(
        [dataclasses.replace(GOOD, right=min(right, 32)), dataclasses.replace(GOOD, right=max(0, right - 32))],
        ACCOUNTING,
    )
    assert (found == []) is fine
    assert fine or f"right in {right} of 64 frames" in found[0]


def test_nothing_counted() -> None:
    """A demo in which nothing was counted fails, even if nothing was to be counted."""
    assert faults([dataclasses.replace(GOOD, configured=0.0, counted=0, right=0)], ACCOUNTING) == [
        "no frame was counted"
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"skipped:stale": 2, "received": 252}, "2 frames ended as skipped:stale"),
        ({"skipped:payload_expired": 1, "received": 251}, "1 frames ended as skipped:payload_expired"),
        ({"dead:failed": 1, "received": 251}, "1 frames ended as dead:failed"),
        ({"received": 251}, "251 frames were received and 250 ended"),
        ({"counted": 39}, "250 frames were received and 249 ended"),
    ],
)
def test_accounting(change: dict[str, int], fault: str) -> None:
    """Every frame must end as counted or as skipped by its limit, and none may be missing."""
    assert faults([GOOD], ACCOUNTING | change) == [fault]


def test_skipped_is_what_was_published_and_not_counted() -> None:
    """The table's columns follow from what was published and counted."""
    assert (GOOD.skipped, GOOD.achieved, GOOD.expected, GOOD.tolerance) == (168, 4.0, 32.0, 2.0)
