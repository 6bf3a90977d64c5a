"""The client's values and the contract's messages."""

import math

import pytest

from handcounter.client.leases import Denials
from handcounter.client.wire import read_answers, to_report
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

GOOD = {"should_process": [True, False], "reasons": [1, 3], "fps": [2.0, 0.0], "next_ts": [10.5, math.inf]}


def test_answers_are_read_by_column() -> None:
    """From the answer to a call and from that of a session alike."""
    for message in (pb.ShouldProcessBatchResponse(**GOOD), pb.SessionAnswers(**GOOD)):
        answers = read_answers(message, 2)
        assert answers is not None
        assert list(answers.should_process) == [True, False]
        assert answers.reasons == [Reason.ADMITTED, Reason.PAUSED]
        assert list(answers.fps) == [2.0, 0.0]
        assert answers.next_ts == [10.5, math.inf]


@pytest.mark.parametrize(("reasons", "read"), [([0, 3], [None, Reason.PAUSED]), ([1, 0], [Reason.ADMITTED, None])])
def test_a_frame_whose_limit_was_never_read_may_have_no_reason(reasons: list[int], read: list[Reason | None]) -> None:
    """The answer names its place."""
    answers = read_answers(pb.SessionAnswers(**GOOD | {"reasons": reasons, "unread_limits": [reasons.index(0)]}), 2)
    assert answers is not None
    assert (answers.reasons, answers.unread) == (read, {reasons.index(0)})


@pytest.mark.parametrize("absent", [0.0, -0.0, -1.0, -math.inf, math.nan])
def test_a_next_ts_that_is_not_positive_is_none(absent: float) -> None:
    """0 is how the contract says that there is none; a foreign server may send the others."""
    for sent, read in (([absent, 10.5], [None, 10.5]), ([10.5, absent], [10.5, None])):
        answers = read_answers(pb.SessionAnswers(**GOOD | {"next_ts": sent}), 2)
        assert answers is not None
        assert answers.next_ts == read


@pytest.mark.parametrize(
    ("change", "frames"),
    [
        ({}, 1),
        ({}, 3),
        ({"should_process": [True]}, 2),
        ({"reasons": [1]}, 2),
        ({"fps": []}, 2),
        ({"next_ts": [1.0] * 3}, 2),
        ({"reasons": [0, 1]}, 2),
        ({"reasons": [1, 6]}, 2),
        ({"reasons": [0, 1], "unread_limits": [1]}, 2),
        ({"reasons": [6, 1], "unread_limits": [0]}, 2),
        ({"fps": [1.0, -1.0]}, 2),
        ({"fps": [math.nan, 1.0]}, 2),
        ({"fps": [1.0, math.nan]}, 2),
    ],
)
def test_answers_that_do_not_fit_are_none(change: dict[str, list[float]], frames: int) -> None:
    """Columns that aren't as long as the batch, unknown reasons, limits that are negative or NaN."""
    assert read_answers(pb.SessionAnswers(**GOOD | change), frames) is None


def test_a_report_has_a_number_for_each_reason() -> None:
    """And the newest frame's ts, reason and age."""
    report = to_report(Denials("cam", [0, 0, 5, 4, 3, 2], 10.5, Reason.LATE, 0.25))
    assert report == pb.LeasedDenials(
        stream_name="cam",
        too_soon=5,
        paused=4,
        duplicate=3,
        late=2,
        last_ts=10.5,
        last_reason=pb.REASON_LATE,
        age_seconds=0.25,
    )
