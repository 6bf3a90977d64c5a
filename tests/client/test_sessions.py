"""Sessions and leases of the rate limiter, against a fake sidecar in this process."""

from collections import Counter
from collections.abc import Iterator

import pytest
from support.clients.rate_limiters import OddSidecar, client_of, source, undisturbed
from support.waiting import wait_until

from handcounter.client import RateLimiter, Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb


@pytest.fixture
def modern() -> Iterator[OddSidecar]:
    """A sidecar with sessions."""
    with OddSidecar() as server:
        yield server


@pytest.fixture
def decided() -> Counter[str]:
    """How many frames were decided by whom."""
    return Counter()


@pytest.fixture
def leasing(modern: OddSidecar, decided: Counter[str]) -> Iterator[RateLimiter]:
    """The client of a sidecar with sessions."""
    with client_of(modern, decided) as limiter:
        yield limiter


def test_frames_under_a_lease_cost_no_request(modern: OddSidecar, leasing: RateLimiter, decided: Counter[str]) -> None:
    """The decisions are those of one schedule, and only the frames that are due are asked about."""
    modern.fps["cam"] = 5.0
    stamps = source(30, 10)
    assert [leasing.decide([("cam", ts)])[0] for ts in stamps] == undisturbed(5.0, stamps)
    assert modern.sizes == [1] * 50
    assert decided == {"sidecar": 50, "lease": 250}


def test_a_batch_asks_about_the_rest(modern: OddSidecar, leasing: RateLimiter) -> None:
    """After a frame that is asked about, the other frames of its stream are asked about too."""
    leasing.decide([("a", 10.0), ("b", 10.0)])
    batch = [("a", 10.5), ("b", 10.5), ("a", 11.0), ("b", 10.0), ("a", 10.6), ("b", 9.0)]
    expected = [
        Reason.TOO_SOON,
        Reason.TOO_SOON,
        Reason.ADMITTED,
        Reason.DUPLICATE,
        Reason.LATE,
        Reason.LATE,
    ]
    assert leasing.decide(batch) == expected
    assert modern.sizes == [2, 2]


def test_a_revoked_lease_ends_at_once(modern: OddSidecar, leasing: RateLimiter) -> None:
    """Without a request; the leases of named streams are revoked, or all."""
    modern.fps.update(a=0.0, b=0.0)
    leasing.decide([("a", 1.0), ("b", 1.0), ("c", 1.0)])
    modern.fps.update(a=1.0, b=1.0)
    modern.revoke("a")
    wait_until(lambda: leasing.decide([("a", 2.0)]) == [Reason.ADMITTED])
    assert leasing.decide([("b", 2.0)]) == [Reason.PAUSED]
    modern.revoke()
    wait_until(lambda: leasing.decide([("b", 2.0)]) == [Reason.ADMITTED])
    assert modern.sizes == [3, 1, 1]


def test_a_lost_session_drops_all_leases(modern: OddSidecar, leasing: RateLimiter) -> None:
    """The next request opens another; while the sidecar is reachable nothing is decided locally."""
    leasing.decide([("a", 1.0)])
    modern.fps["a"] = 3.0
    modern.end_sessions()
    wait_until(lambda: leasing.decide([("a", 1.5)]) == [Reason.ADMITTED])
    assert not leasing.sidecar_unreachable
    assert leasing.decide([("a", 1.55)]) == [Reason.TOO_SOON]
    assert modern.sizes == [1, 1]


def test_what_leases_denied_is_reported(
    modern: OddSidecar, leasing: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By reason, within a second, without another request; the rest when the client is closed."""
    monkeypatch.setattr("handcounter.client.session.LAST_REPORT_TIMEOUT_S", 60.0)
    modern.fps["off"] = 0.0
    leasing.decide([("cam", 10.0), ("off", 1.0)])
    leasing.decide([("cam", 10.5), ("cam", 10.0), ("cam", 9.0), ("cam", 10.6), ("off", 2.0), ("off", 3.0)])
    wait_until(lambda: len(modern.reports) == 2)
    cam, off = sorted(modern.reports, key=lambda report: report.stream_name)
    assert (cam.too_soon, cam.duplicate, cam.late, cam.paused) == (2, 1, 1, 0)
    assert (cam.last_ts, cam.last_reason) == (10.6, pb.REASON_TOO_SOON)
    assert 0.0 <= cam.age_seconds < 60.0
    assert (off.paused, off.last_ts, off.last_reason) == (2, 3.0, pb.REASON_PAUSED)
    leasing.decide([("cam", 10.7)])
    leasing.close()
    assert sum(report.too_soon for report in modern.reports) == 3
    assert modern.sizes == [2]


def test_everything_that_leases_denied_is_reported_at_the_end(
    modern: OddSidecar, leasing: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many requests as it takes."""
    monkeypatch.setattr("handcounter.client.session.LAST_REPORT_TIMEOUT_S", 60.0)
    monkeypatch.setattr("handcounter.client.session.REPORT_S", 3600.0)
    monkeypatch.setattr("handcounter.client.session.MAX_BATCH", 2)
    with client_of(modern, Counter()) as limiter:
        limiter.decide([(f"cam{number}", 10.0) for number in range(5)])
        limiter.decide([(f"cam{number}", 10.1) for number in range(5)])
        limiter.close()
    assert sorted(report.stream_name for report in modern.reports) == [f"cam{number}" for number in range(5)]


def test_what_a_lost_session_did_not_report_the_next_one_does(
    modern: OddSidecar, decided: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar may have lost only the session, and still have the stream's counters."""
    monkeypatch.setattr("handcounter.client.session.LAST_REPORT_TIMEOUT_S", 60.0)
    monkeypatch.setattr("handcounter.client.session.REPORT_S", 3600.0)
    with client_of(modern, decided, deadline=60.0) as limiter:
        limiter.decide([("a", 10.0)])
        limiter.decide([("a", 10.1), ("a", 10.2)])
        modern.end_sessions()
        wait_until(lambda: limiter.decide([("b", 1.0)]) and decided["sidecar"] == 2)  # in another session
        limiter.close()
    assert [(report.stream_name, report.too_soon) for report in modern.reports] == [("a", 2)]


def test_a_sidecar_that_hangs_is_noticed_without_a_request(
    modern: OddSidecar, decided: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An unanswered report ends the session, because a sidecar that hangs can't revoke leases either."""
    with client_of(modern, decided, deadline=0.3) as limiter:
        limiter.decide([("cam", 1.0)])
        modern.silent = True
        wait_until(lambda: limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON] and limiter.sidecar_unreachable)
        assert "is unreachable" in caplog.messages[0]
        modern.silent = False
        wait_until(lambda: not limiter.sidecar_unreachable)
