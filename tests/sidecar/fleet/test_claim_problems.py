"""What is told about rejected claims: a count, a sentence and few lines."""

import logging

import pytest

from process.redis_url import Address
from sidecar.connections.errors import RejectedError
from sidecar.fleet.claim_problems import OTHER_CODE, WARN_EVERY_S, ClaimProblems

HERE, THERE = Address("here", 1), Address("there", 2)
OOM = RejectedError("OOM", "OOM command not allowed when used memory > 'maxmemory'.")
MISCONF = RejectedError("MISCONF", "MISCONF Errors writing to the AOF file")


class Problems(ClaimProblems):
    """Problems with a clock that only the test advances, and all sentences so far."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[str] = []
        super().__init__(self.told.append, lambda: self.now)


@pytest.fixture
def problems() -> Problems:
    return Problems()


def test_a_rejection_is_told_until_that_server_accepts(problems: Problems) -> None:
    """The sentence says what is wrong, in Redis' own words, and what to do. Another server's answer changes nothing."""
    problems.record_rejection(HERE, OOM, 3)
    problems.record_rejection(HERE, OOM, 2)
    problems.record_acceptance(THERE)
    (sentence,) = problems.told
    assert problems.sentence == sentence
    assert [word for word in ("claims", "no memory", str(OOM), "raise maxmemory") if word not in sentence] == []
    problems.record_acceptance(HERE)
    assert problems.told == [sentence, ""]
    assert problems.rejected["OOM"] == 5


def test_one_server_that_accepts_leaves_the_other_ones_problem(problems: Problems) -> None:
    """Of two nodes of a cluster that reject, the one that still does is told."""
    problems.record_rejection(HERE, OOM, 1)
    problems.record_rejection(THERE, MISCONF, 1)
    problems.record_acceptance(HERE)
    assert "can't save" in problems.sentence
    problems.record_acceptance(THERE)
    assert problems.sentence == ""


@pytest.mark.parametrize(("code", "counted"), [("NOPERM", "NOPERM"), ("NEWERR", OTHER_CODE), ("", OTHER_CODE)])
def test_codes_are_bounded(problems: Problems, code: str, counted: str) -> None:
    """A server may say anything; the metric has few labels, all of them from the start."""
    before = problems.rejected.copy()
    problems.record_rejection(HERE, RejectedError(code, "text"), 1)
    assert problems.rejected.keys() == before.keys()
    assert problems.rejected - before == {counted: 1}


def test_a_warning_is_not_repeated_within_a_minute(problems: Problems, caplog: pytest.LogCaptureFixture) -> None:
    """However often a server changes its mind; each reason and each server is worth a line of its own."""
    caplog.set_level(logging.INFO)
    for _ in range(30):
        problems.record_rejection(HERE, OOM, 1)
        problems.record_acceptance(HERE)
        problems.now += WARN_EVERY_S / 40
    problems.record_rejection(HERE, MISCONF, 1)
    problems.record_rejection(THERE, OOM, 1)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [(record.address, record.error) for record in warnings] == [
        (str(HERE), str(OOM)),
        (str(HERE), str(MISCONF)),
        (str(THERE), str(OOM)),
    ]
    assert all(record.hint for record in warnings)
    problems.now += WARN_EVERY_S
    problems.record_rejection(HERE, OOM, 1)
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 4
