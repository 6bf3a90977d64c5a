"""The specification of the decision: one table of cases, each a short history of one stream.

A row is (ts, fps, real time, expected reason). Laws that hold for every history are in test_schedule_laws.py.
"""

import math

import pytest

from handcounter.pacing import schedule
from handcounter.pacing.schedule import (
    TOLERANCE_S,
    Pacing,
    Reason,
    Schedule,
    decide,
    next_ts,
    stream_name_error,
    ts_error,
)

YES, SOON, PAUSED, SAME, LATE = Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED, Reason.DUPLICATE, Reason.LATE
INF = math.inf

BOTH = {
    "the first frame is admitted, the next after one period": [
        (100.0, 1.0, 0.0, YES),
        (100.5, 1.0, 0.5, SOON),
        (101.0, 1.0, 1.0, YES),
    ],
    "a first frame at time zero is a frame like any other": [
        (0.0, 1.0, 0.0, YES),
        (0.0, 1.0, 0.0, SAME),
        (1.0, 1.0, 1.0, YES),
    ],
    "0.1 + 0.2 is not earlier than 0.3": [
        (0.0, 1 / 0.3, 0.0, YES),
        (0.1 + 0.2, 1 / 0.3, 0.3, YES),
        (0.6, 1 / 0.3, 0.6, YES),
    ],
    "half a microsecond early is in time, two are not": [
        (10.0, 1.0, 0.0, YES),
        (10.999998, 1.0, 1.0, SOON),
        (10.9999995, 1.0, 1.0, YES),
    ],
    "the same ts again is a duplicate, an older one up to 2 s is late": [
        (10.0, 1.0, 0.0, YES),
        (10.0, 1.0, 0.1, SAME),
        (9.99, 1.0, 0.2, LATE),
        (8.0, 1.0, 0.3, LATE),
        (10.0, 1.0, 9.0, SAME),
    ],
    "a clock that goes back by more than 2 s restarts the stream, once real time allows": [
        (10.0, 1.0, 50.0, YES),
        (7.999, 1.0, 50.1, SOON),
        (7.999, 1.0, 50.999, SOON),
        (0.0, 1.0, 51.0, YES),
        (0.5, 1.0, 51.5, SOON),
        (1.0, 1.0, 52.0, YES),
    ],
    "without a limit a restarted clock waits for nothing": [
        (10.0, INF, 50.0, YES),
        (0.0, INF, 50.0, YES),
    ],
    "a bogus ts in the future costs two seconds at most": [
        (10.0, 2.0, 0.0, YES),
        (1e9, 2.0, 0.1, YES),
        (10.2, 2.0, 0.2, SOON),
        (10.6, 2.0, 0.6, YES),
        (11.1, 2.0, 1.1, YES),
    ],
    "a paused stream admits nothing and forgets nothing": [
        (10.0, 0.0, 0.0, PAUSED),
        (10.1, 1.0, 0.1, YES),
        (11.1, 0.0, 1.1, PAUSED),
        (10.1, 0.0, 1.1, PAUSED),
        (11.1, 1.0, 1.1, YES),
    ],
    "no limit admits every new ts": [
        (10.0, INF, 0.0, YES),
        (10.0, INF, 0.0, SAME),
        (10.000001, INF, 0.0, YES),
        (9.0, INF, 0.0, LATE),
    ],
    "a raise acts on the next frame": [
        (10.0, 0.1, 0.0, YES),
        (11.0, 0.1, 1.0, SOON),
        (11.1, 1.0, 1.1, YES),
    ],
    "a cut acts on the next frame": [
        (10.0, 10.0, 0.0, YES),
        (10.1, 10.0, 0.1, YES),
        (10.2, 0.5, 0.2, SOON),
        (12.0, 0.5, 2.0, SOON),
        (12.1, 0.5, 2.1, YES),
    ],
    "a limit lifted and set again starts from the last admitted frame": [
        (10.0, INF, 0.0, YES),
        (10.5, INF, 0.5, YES),
        (11.4, 1.0, 1.4, SOON),
        (11.5, 1.0, 1.5, YES),
    ],
    "an fps so small that its period is infinite admits the first frame only": [
        (10.0, 5e-324, 0.0, YES),
        (1e11, 5e-324, 1e9, SOON),
    ],
}

GCRA = {
    "lateness is not lost: 30 fps limited to 20 is two frames of three": [
        (0 / 30, 20.0, 0.0, YES),
        (1 / 30, 20.0, 0.0, SOON),
        (2 / 30, 20.0, 0.0, YES),
        (3 / 30, 20.0, 0.0, YES),
        (4 / 30, 20.0, 0.0, SOON),
        (5 / 30, 20.0, 0.0, YES),
        (6 / 30, 20.0, 0.0, YES),
    ],
    "a stream that was silent may catch up one and a half periods": [
        (0.0, 1.0, 0.0, YES),
        (100.0, 1.0, 100.0, YES),
        (100.1, 1.0, 100.1, YES),
        (100.4, 1.0, 100.4, SOON),
        (100.5, 1.0, 100.5, YES),
        (101.4, 1.0, 101.4, SOON),
        (101.5, 1.0, 101.5, YES),
    ],
    "a raise gives no more credit than the new rate has": [
        (0.0, 0.01, 0.0, YES),
        (90.0, 1.0, 90.0, YES),
        (90.1, 1.0, 90.1, YES),
        (90.2, 1.0, 90.2, SOON),
    ],
}

MIN_GAP = {
    "the gap counts from the last admitted frame: 30 fps limited to 20 is every second one": [
        (0 / 30, 20.0, 0.0, YES),
        (1 / 30, 20.0, 0.0, SOON),
        (2 / 30, 20.0, 0.0, YES),
        (3 / 30, 20.0, 0.0, SOON),
        (4 / 30, 20.0, 0.0, YES),
    ],
    "a stream that was silent has nothing to catch up": [
        (0.0, 1.0, 0.0, YES),
        (100.0, 1.0, 100.0, YES),
        (100.5, 1.0, 100.5, SOON),
        (101.0, 1.0, 101.0, YES),
    ],
}

CASES = [
    *[pytest.param(Pacing.GCRA, rows, id=f"gcra: {name}") for name, rows in (BOTH | GCRA).items()],
    *[pytest.param(Pacing.MIN_GAP, rows, id=f"min-gap: {name}") for name, rows in (BOTH | MIN_GAP).items()],
]


@pytest.mark.parametrize(("pacing", "rows"), CASES)
def test_history(pacing, rows):
    """Each frame of the history gets the reason in the table."""
    schedule = None
    for row, (ts, fps, now, expected) in enumerate(rows):
        reason, schedule = decide(schedule, ts, fps, now, pacing)
        assert (row, reason) == (row, expected)


@pytest.mark.parametrize(
    ("schedule", "fps", "expected"),
    [
        (Schedule(slot=10.0, last_ts=10.0, admitted_at=0.0), 1.0, 11.0 - 1e-6),
        (Schedule(slot=9.0, last_ts=10.2, admitted_at=0.0), 0.5, 11.0 - 1e-6),
        # The credit admits the next frame at once, but not the same one again.
        (Schedule(slot=8.5, last_ts=10.0, admitted_at=0.0), 1.0, math.nextafter(10.0, INF)),
        (Schedule(slot=10.0, last_ts=10.0, admitted_at=0.0), INF, math.nextafter(10.0, INF)),
        (Schedule(slot=10.0, last_ts=10.0, admitted_at=0.0), 0.0, INF),
        (None, 0.0, INF),
        (None, 1.0, -INF),
    ],
)
def test_next_ts(schedule, fps, expected):
    """The earliest ts that would be admitted is the due time minus the tolerance, but after the last frame."""
    assert next_ts(schedule, fps) == expected


def test_a_restart_is_due_to_the_instant():
    """The first instant at which a restarted clock is served is one period after the admission, less the tolerance."""
    admitted = Schedule(100.0, 100.0, 0.0)
    due = 1.0 - TOLERANCE_S
    assert decide(admitted, 5.0, 1.0, due).reason is YES
    assert decide(admitted, 5.0, 1.0, math.nextafter(due, 0.0)).reason is SOON


def test_next_ts_is_never_the_last_admitted_one():
    """A frame that would be due at the very ts of the last admitted one is a duplicate, so the next float is due."""
    due = 1.0 - TOLERANCE_S
    assert next_ts(Schedule(0.0, due, 0.0), 1.0) == math.nextafter(due, INF)
    assert next_ts(Schedule(0.0, math.nextafter(due, 0.0), 0.0), 1.0) == due


@pytest.mark.parametrize("ts", [0.0, -0.0, 1e-9, 1.7e9, 1e11])
def test_good_ts(ts):
    """Seconds from 0 to 1e11 are valid."""
    assert ts_error(ts) is None


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        (math.nan, "ts must be a finite number of seconds, got nan"),
        (INF, "ts must be a finite number of seconds, got inf"),
        (-INF, "ts must be a finite number of seconds, got -inf"),
        (-1e-9, "ts must not be negative, got -1e-09"),
        (1.7e12, "ts must be seconds, at most 1e+11, got 1700000000000.0: are these milliseconds?"),
        (
            math.nextafter(1e11, INF),
            "ts must be seconds, at most 1e+11, got 100000000000.00002: are these milliseconds?",
        ),
    ],
)
def test_bad_ts(ts, message):
    """An invalid ts gets a message with the problem and the value."""
    assert ts_error(ts) == message


@pytest.mark.parametrize("name", ["a", "Wohnzimmer ß 7/front", "x" * 256, "鏡" * 256, "*", "a b", "a\u00a0b"])
def test_good_stream_name(name):
    """1 to 256 characters of any kind are valid."""
    assert stream_name_error(name) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "stream_name must not be empty"),
        (" ", "stream_name must not begin or end with blanks, got ' '"),
        ("cam1 ", "stream_name must not begin or end with blanks, got 'cam1 '"),
        ("\u00a0cam1", "stream_name must not begin or end with blanks, got '\\xa0cam1'"),
        *(
            (name, f"stream_name must not contain control characters, such as line breaks, got {name!r}")
            for name in (
                "cam1\r",
                "cam\n1",
                "\tcam1",
                "a\x00",
                "\x1b[31m",
                "a\x7fb",
                "a\x85b",
                "a\u2028b",
                "\ufeffcam1",
            )
        ),
        ("y" * 257, f"stream_name must have at most 256 characters, got 257: '{'y' * 32}'..."),
    ],
)
def test_bad_stream_name(name, message):
    """A name that is too short or too long, or that isn't what it looks like, gets a message that says why."""
    assert [stream_name_error(name) for _ in range(2)] == [message] * 2


def test_memory_of_valid_names_is_bounded(monkeypatch):
    """However many names there are, few are remembered, and each is still valid."""
    monkeypatch.setattr(schedule, "_MOST_VALID_NAMES", 10)
    for number in range(35):
        assert stream_name_error(f"stream {number}") is None
        assert f"stream {number}" in schedule.valid_names
        assert len(schedule.valid_names) <= 10
