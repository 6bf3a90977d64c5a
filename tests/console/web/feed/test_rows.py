import math

import pytest

from console.control.states import State
from console.web.feed.facts import (
    CameraSaid,
    Counted,
    Paced,
    camera_from,
    counted_from,
    decode_name,
    encode_name,
    numbers_from,
)
from console.web.feed.rows import row_of

NOW = 1_700_000_000.0
FRESH = Counted(heard_at=NOW - 0.1, counted_at=NOW - 0.5, hands=2, received=100, admitted=10, counted=10)


def test_a_row_takes_the_cameras_own_rate_from_a_publisher_that_thins():
    row = row_of("cam1", FRESH, Paced(math.inf, "override", source_fps=25.0), None, NOW, NOW)
    assert (row["source_fps"], row["limit"], row["limit_source"]) == (25.0, "inf", "override")


def test_the_signs_of_a_row():
    uncounted = Counted(heard_at=NOW - 0.1, counted_at=NOW - 60, received=100, admitted=20, counted=10)
    paced = Paced(2.0, "override", denied=1)
    assert row_of("cam1", uncounted, paced, None, NOW - 0.1, NOW)["state"] == State.BEHIND
    assert row_of("cam1", None, paced, None, 0.0, NOW)["state"] == State.SILENT
    assert row_of("cam1", None, paced, CameraSaid("working", "", 25.0), 0.0, NOW)["state"] == State.LIVE
    assert row_of("cam1", FRESH, Paced(0.0, "override"), None, NOW - 60, NOW)["state"] == State.PAUSED


def test_a_row_of_a_stream_that_only_has_a_limit():
    row = row_of("cam1", None, None, None, 0.0, NOW)
    assert (row["state"], row["limit"], row["hands"], row["heard_at"]) == (State.UNSEEN, None, None, 0.0)


@pytest.mark.parametrize("raw", [b"cam1", "камера".encode(), b"\xff\xfe", b"a\x00b", "\u202egpj".encode()])
def test_a_name_survives_as_it_is(raw: bytes):
    assert encode_name(decode_name(raw)) == raw


def test_a_hash_may_lack_fields_or_hold_anything():
    values = [b"nan", b"-1", b"three", b"1e999", None, b"", b"\xff" * 100, b"7", b"7.9", b"x", None, None]
    assert counted_from(values) == Counted(hands=0, last_skip="\ufffd" * 40, received=7, admitted=7)
    assert counted_from([None] * 12) is None


def test_counters_that_are_none_are_left_out():
    assert numbers_from({b"counted": b"5", b"dead:x": b"-1", b"odd": b"1.5"}) == {"counted": 5}


def test_several_sidecars_are_one_answer():
    one = Paced(2.0, "override", admitted=5, denied=1, admitted_fps=1.0, unread=True)
    other = Paced(3.0, "default", invalid="x", admitted=7, denied=2, admitted_fps=0.5, source_fps=25.0)
    both = one.merged(other)
    assert (both.fps, both.source, both.invalid, both.admitted, both.admitted_fps) == (2.0, "override", "x", 12, 1.5)
    assert (both.source_fps, both.unread) == (25.0, False)


def test_what_a_publisher_says():
    assert camera_from([None] * 4) is None
    camera = camera_from([b"lost", "käputt".encode() + b"\xff", b"25", b"9"])
    assert camera == CameraSaid("lost", "käputt\ufffd", 25.0, 9.0)
    row = row_of("cam1", None, None, camera, 0.0, NOW)
    assert (row["camera"], row["camera_error"], row["source_fps"]) == ("lost", "käputt\ufffd", 0.0)
    assert row["state"] == State.SILENT


def test_the_error_of_a_camera_that_works_again_is_over():
    row = row_of("cam1", FRESH, None, CameraSaid("working", "refused", 25.0), NOW, NOW)
    assert (row["camera"], row["camera_error"], row["source_fps"], row["state"]) == ("working", "", 25.0, State.LIVE)


def test_the_rates_of_a_silent_camera_are_over():
    old = Counted(heard_at=NOW - 60, source_fps=25.0, counted_fps=2.0)
    row = row_of("cam1", old, None, None, NOW - 60, NOW)
    assert (row["state"], row["source_fps"], row["counted_fps"]) == (State.SILENT, 0.0, 0.0)
