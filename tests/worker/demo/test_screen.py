import io

import pytest
from rich.console import Console

from worker.demo.screen import Screen
from worker.demo.verdict import Row

ROWS = [
    Row(1, "cam1", 15.0, 2.0, "--fps", 8.0, 120, 16, 24, 24, 16),
    Row(1, "cam2", 25.0, 4.0, "cam2", 8.0, 200, 12, 40, 39, 11),
    Row(2, "cam1", 15.0, 0.0, "cam1", 8.0, 120, 0, 0, 0, 0),
]


def shown(*, terminal: bool) -> str:
    """Returns the output of a screen for a phase and a summary, 80 columns wide."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, color_system=None, legacy_windows=False)
    with Screen(console) as screen:
        screen.phase(1, 5, "two limits", ["HSET stream_fps_configs 'cam2' 4"])
        screen.progress(ROWS[:2], 3.0)
        screen.phase_done(ROWS[:2])
    screen.summary(ROWS, ["all is well"])
    return out.getvalue()


def test_without_a_terminal_there_are_plain_lines() -> None:
    """A log has a phase's announcement and outcome, the table and the remarks, without control sequences."""
    text = shown(terminal=False)
    assert "\x1b" not in text
    assert "phase 1 of 5: two limits" in text
    assert "redis-cli HSET stream_fps_configs 'cam2' 4" in text
    assert "cam1: 2.00 of 2 fps (--fps), 104 of 120 frames skipped undecoded, 24 hands counted of 24\n" in text
    assert "39 hands counted of 40  OFF" in text
    assert text.rstrip().endswith("all is well")


def test_a_terminal_gets_a_live_table() -> None:
    """A terminal shows the table during the phase, complete at 80 columns."""
    text = shown(terminal=True)
    assert "two limits, 3 s left" in text
    for cell in ("source", "configured", "skipped", "undecoded", "4 (cam2)", "188 of 200", "11 of 12", "0 (cam1)"):
        assert cell in text
    assert "…" not in text


def test_no_color_means_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR a terminal gets no escape sequences, so no live table."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal
    monkeypatch.setattr("sys.stdout", out := io.StringIO())
    with Screen() as screen:
        screen.phase(1, 5, "two limits", [])
        screen.progress(ROWS[:2], 3.0)
    screen.summary(ROWS, [])
    assert "two limits" in out.getvalue()
    assert "\x1b" not in out.getvalue()
