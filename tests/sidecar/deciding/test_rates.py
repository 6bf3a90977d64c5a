"""Achieved fps and speed, against an independent count with a simulated clock."""

import math
import random

import pytest

from handcounter.pacing.schedule import Schedule
from sidecar.deciding.stream import Stream


class Count:
    """Counts the plain way: keeps every admission."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def fps(self, now: float) -> float:
        """Admissions per second over the longer of 10 s and 50 admissions before now."""
        since = min(now - 10.0, self.times[-51] if len(self.times) > 50 else self.times[0])
        inside = [time for time in self.times if time > since]
        return len(inside) / (now - since)


def drive(stream: Stream, now: float, fps: float, seconds: float, speed: float = 1.0) -> float:
    """Admits frames at a rate for some time; returns the time of the last one."""
    base_ts = stream.heard_ts
    for number in range(1, round(fps * seconds) + 1):
        at = now + number / fps
        ts = base_ts + (at - now) * speed
        stream.heard_at, stream.heard_ts = at, ts
        stream.admit(Schedule(ts, ts, at))
    return at


@pytest.mark.parametrize("fps", [0.2, 0.5, 1.0, 2.0, 4.9, 5.1, 7.5, 15.0, 30.0, 120.0])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_achieved_fps_is_the_rate_of_admissions(fps: float, jitter: float) -> None:
    """A steady stream's achieved fps is its rate within 2 %, as soon as a window has passed and ever after."""
    chance = random.Random(1)
    stream = Stream("a", 0.0, 50.0)
    window = max(10.0, 50 / fps)
    for number in range(round(fps * 6 * window)):
        at = 50.0 + (number + chance.uniform(-jitter, jitter)) / fps
        stream.heard_at = stream.heard_ts = at
        stream.admit(Schedule(at, at, at))
        if number > fps * window:
            for later in (0.0, 0.4, 0.7):
                if later / fps < 5.0:
                    assert abs(stream.achieved_fps(at + later / fps) - fps) <= 0.02 * fps


@pytest.mark.parametrize(("before", "after"), [(30.0, 2.0), (2.0, 30.0), (30.0, 15.0), (0.5, 10.0), (10.0, 0.5)])
def test_achieved_fps_follows_a_change(before: float, after: float) -> None:
    """At any time from a change on it is that of an independent count over the window, within 2 % and a frame."""
    stream, count = Stream("a", 0.0, 0.0), Count()
    now = drive(stream, 0.0, before, 100.0)
    count.times = [number / before for number in range(1, round(100.0 * before) + 1)]
    window = max(10.0, 50 / after)
    for _ in range(round(1.2 * window * after)):
        now = drive(stream, now, after, 1 / after)
        count.times.append(now)
        counted = count.fps(now)
        assert abs(stream.achieved_fps(now) - counted) <= 0.02 * counted + 1.0 / window
    assert stream.achieved_fps(now) == pytest.approx(after, rel=0.02)


@pytest.mark.parametrize("fps", [1e-6, 1000.0, 20_000.0])
def test_achieved_fps_of_extreme_streams(fps: float) -> None:
    """It is right for one frame in days, and for more frames in a moment than any camera has."""
    stream = Stream("a", 0.0, 0.0)
    now = drive(stream, 0.0, fps, 60 / fps if fps < 1.0 else 12.0)
    assert stream.achieved_fps(now) == pytest.approx(fps, rel=0.02)
    assert stream.speed(now) == pytest.approx(1.0, rel=0.02)


def test_a_leap_of_the_streams_clock_is_no_error() -> None:
    """After a bogus ts far in the future, the rates are still finite numbers."""
    stream = Stream("a", 0.0, 0.0)
    now = drive(stream, 0.0, 10.0, 20.0)
    stream.heard_at, stream.heard_ts = now + 0.5, 1e11
    stream.admit(Schedule(1e11, 1e11, now + 0.5))
    now = drive(stream, now + 0.5, 10.0, 3.0)
    assert 1e3 < stream.speed(now) < math.inf
    now = drive(stream, now, 10.0, 30.0)
    assert stream.speed(now) == pytest.approx(1.0, rel=0.02)


def test_achieved_fps_falls_when_admissions_stop() -> None:
    """A stream whose frames are all denied from now on achieves less and less."""
    stream = Stream("a", 0.0, 0.0)
    now = drive(stream, 0.0, 30.0, 60.0)
    achieved = []
    for second in range(1, 40):
        stream.heard_at = now + second
        achieved.append(stream.achieved_fps(now + second))
    assert achieved == sorted(achieved, reverse=True)
    assert achieved[-1] < 2.0


def test_a_silent_stream_achieves_nothing() -> None:
    """After 5 s without any frame the achieved fps is 0, just before it isn't."""
    stream = Stream("a", 0.0, 0.0)
    now = drive(stream, 0.0, 10.0, 30.0)
    assert stream.achieved_fps(now + 4.99) > 0.0
    assert stream.achieved_fps(now + 5.0) == 0.0


def test_a_stream_without_an_admission_achieves_nothing() -> None:
    """Before its first admission a stream's achieved fps is 0."""
    assert Stream("a", 0.0, 0.0).achieved_fps(1.0) == 0.0


def test_one_admission_is_one_in_a_window() -> None:
    """A single admission isn't taken for a high rate."""
    stream = Stream("a", 0.0, 0.0)
    stream.admit(Schedule(0.0, 0.0, 0.0))
    assert stream.achieved_fps(0.001) == pytest.approx(0.1)


@pytest.mark.parametrize("speed", [0.1, 1.0, 4.0, 1000.0])
def test_speed_is_stream_seconds_per_real_second(speed: float) -> None:
    """A live camera's speed is 1; milliseconds sent as seconds are seen as 1000, within seconds and ever after."""
    stream = Stream("a", 5.0, 0.0)
    now = drive(stream, 0.0, 10.0, 3.0, speed=speed)
    assert stream.speed(now) == pytest.approx(speed, rel=0.02)
    now = drive(stream, now, 10.0, 60.0, speed=speed)
    assert stream.speed(now) == pytest.approx(speed, rel=0.02)


def test_speed_of_a_paused_stream_is_seen_too() -> None:
    """Frames that are all denied still show how fast the stream's clock runs."""
    stream = Stream("a", 0.0, 0.0)
    for number in range(300):
        stream.heard_at, stream.heard_ts = number / 30, 1000 * number / 30
    assert stream.speed(10.0) == pytest.approx(1000.0, rel=0.02)


def test_a_clock_that_goes_back_doesnt_make_the_speed_negative() -> None:
    """A looped file's speed stays near 1: steps back are no stream time."""
    stream = Stream("a", 0.0, 0.0)
    now = 0.0
    for _ in range(10):
        now = drive(stream, now, 10.0, 20.0)
        stream.heard_ts = 0.0
        stream.admit(Schedule(0.0, 0.0, now))
    assert stream.speed(now) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize(("later_s", "achieved"), [(0.5, 10.0), (9.0, 10.0), (10.0, 5.1), (30.0, 1.7)])
def test_frames_that_are_admitted_at_once_count_in_the_window(later_s: float, achieved: float) -> None:
    """A batch of a stream without a limit is admitted at one instant. The window has 50 of its frames later."""
    stream = Stream("a", 0.0, 0.0)
    for number in range(1, 101):
        stream.admit(Schedule(number / 100, number / 100, 5.0))
    stream.heard_at = 5.0 + later_s
    assert stream.achieved_fps(5.0 + later_s) == pytest.approx(achieved)


@pytest.mark.parametrize(
    ("before", "after", "later_s", "achieved"),
    [
        (1.0, 0.2, 0.0, 0.2),
        (1.0, 0.2, 5.0, 0.2),
        (1.0, 0.2, 40.0, 0.2),
        (0.2, 1.0, 0.5, 0.2),
        (0.2, 1.0, 2.0, 1.0),
        (30.0, 2.0, 0.3, 2.0),
        (30.0, 2.0, 1.0, 2.0),
        (2.0, 30.0, 0.01, 2.0),
        (2.0, 30.0, 0.1, 30.0),
        (2.0, 2.0, 0.0, 2.0),
    ],
)
def test_achieved_fps_begins_anew_with_another_limit(
    before: float, after: float, later_s: float, achieved: float
) -> None:
    """So many seconds after a change of the limit of a stream that achieves its limits."""
    stream = Stream("a", 0.0, 0.0)
    changed_at = drive(stream, 0.0, before, 200.0 / before) + 0.001
    stream.change_limit(changed_at)
    if frames := math.floor(later_s * after):
        drive(stream, changed_at, after, frames / after)
    now = changed_at + later_s
    stream.heard_at = now
    assert stream.achieved_fps(now, after, changed_at) == pytest.approx(achieved, rel=0.02)


def test_a_limit_that_changes_often_leaves_one_window() -> None:
    """Changes between two admissions count as one, and the marks hold no admission from before them."""
    stream = Stream("a", 0.0, 0.0)
    now = drive(stream, 0.0, 10.0, 60.0)
    for since in (now + 0.01, now + 0.02, now + 0.03):
        stream.change_limit(since)
    now = drive(stream, now + 0.03, 2.0, 2.0)
    assert stream.achieved_fps(now, 2.0, since) == pytest.approx(2.0)
    assert stream.speed(now) == pytest.approx(1.0, rel=0.02)
