"""The counting half of process_frame_callback."""

import time

import numpy as np
import pytest
from support.models.fake_detector import FakeDetector
from support.processes.workers import picture

from worker.frame_counter import count_hands
from worker.picture_header import PictureError


def test_times_are_of_decoding_and_detecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array costs no decoding."""
    ticks = iter([1.0, 3.0, 7.0, 10.0, 11.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    encoded = count_hands("cam", 1.0, picture(), FakeDetector())
    assert (encoded.decode_s, encoded.detect_s) == (2.0, 4.0)
    array = count_hands("cam", 1.0, np.zeros((48, 64, 3), np.uint8), FakeDetector())
    assert (array.decode_s, array.detect_s) == (0.0, 4.0)


def test_a_picture_with_too_many_pixels_is_not_decoded() -> None:
    """Up to the limit it is."""
    assert count_hands("cam", 1.0, picture(width=64, height=48), FakeDetector(), 64 * 48).hand_count == 1
    with pytest.raises(PictureError, match="more than 3071 pixels"):
        count_hands("cam", 1.0, picture(width=64, height=48), FakeDetector(), 64 * 48 - 1)
