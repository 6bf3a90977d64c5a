import math

import pytest

from console.control.silence import silent_after


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(0.01, 300.0), (0.3, 10.0), (1.0, 10.0), (math.inf, 10.0), (None, 10.0), (0.0, 10.0)],
)
def test_a_stream_is_silent_after_three_periods_and_ten_seconds_at_least(limit: float | None, seconds: float) -> None:
    assert silent_after(limit) == pytest.approx(seconds)
