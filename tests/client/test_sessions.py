"""The sidecar's client: sessions and leases, against a server of the contract in this process."""

from collections import Counter
from collections.abc import Iterator

import pytest
from support.clients.fake_sidecar import Sidecar, client_of, source, undisturbed
from support.waiting import wait_until

from handcounter.client.rate_limiter import RateLimiter
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb


@pytest.fixture
def modern() -> Iterator[Sidecar]:
    """A sidecar with sessions."""
    server = Sidecar()
    yield server
    server.stop()


@pytest.fixture
def decided() -> Counter[str]:
    """Who decided how many frames."""
    return Counter()


@pytest.fixture
def leasing(modern: Sidecar, decided: Counter[str]) -> Iterator[RateLimiter]:
    """The client of a sidecar with sessions."""
    with client_of(modern, decided) as limiter:
        yield limiter


def test_frames_under_a_lease_cost_no_question(modern: Sidecar, leasing: RateLimiter, decided: Counter[str]) -> None:
    """The decisions are those of one schedule; of the frames of a camera only what is due is asked about."""
    modern.fps["cam"] = 5.0
    stamps = source(30, 10)
    assert [leasing.decide([("cam", ts)])[0] for ts in stamps] == undisturbed(5.0, stamps)
    assert modern.sizes == [1] * 50
    assert decided == {"sidecar": 50, "lease": 250}


def test_a_batch_asks_about_the_rest(modern: Sidecar, leasing: RateLimiter) -> None:
    """Frames are answered in their order; behind a frame that is asked about, its stream's others are too."""
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


def test_a_drop_ends_the_lease_though_nothing_was_asked(modern: Sidecar, leasing: RateLimiter) -> None:
    """Of the named streams, or of all."""
    modern.fps.update(a=0.0, b=0.0)
    leasing.decide([("a", 1.0), ("b", 1.0), ("c", 1.0)])
    modern.fps.update(a=1.0, b=1.0)
    modern.drop("a")
    wait_until(lambda: leasing.decide([("a", 2.0)]) == [Reason.ADMITTED])
    assert leasing.decide([("b", 2.0)]) == [Reason.PAUSED]
    modern.drop()
    wait_until(lambda: leasing.decide([("b", 2.0)]) == [Reason.ADMITTED])
    assert modern.sizes == [3, 1, 1]


def test_a_lost_session_drops_all_leases(modern: Sidecar, leasing: RateLimiter) -> None:
    """Another is opened with the next question; as long as the sidecar is there nothing is decided here."""
    leasing.decide([("a", 1.0)])
    modern.fps["a"] = 3.0
    modern.end_sessions()
    wait_until(lambda: leasing.decide([("a", 1.5)]) == [Reason.ADMITTED])
    assert not leasing.away
    assert leasing.decide([("a", 1.55)]) == [Reason.TOO_SOON]
    assert modern.sizes == [1, 1]


def test_what_leases_denied_is_reported(modern: Sidecar, leasing: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """By reason, within a second, without a question; the rest when the client is closed."""
    monkeypatch.setattr("handcounter.client.session.GOODBYE_S", 60.0)
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


def test_all_that_leases_denied_is_reported_at_the_end(
    modern: Sidecar, leasing: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many reports as it takes."""
    monkeypatch.setattr("handcounter.client.session.GOODBYE_S", 60.0)
    monkeypatch.setattr("handcounter.client.session.REPORT_S", 3600.0)
    monkeypatch.setattr("handcounter.client.session.MAX_REPORTS", 2)
    with client_of(modern, Counter()) as limiter:
        limiter.decide([(f"cam{number}", 10.0) for number in range(5)])
        limiter.decide([(f"cam{number}", 10.1) for number in range(5)])
        limiter.close()
    assert sorted(report.stream_name for report in modern.reports) == [f"cam{number}" for number in range(5)]


def test_what_a_lost_session_did_not_report_the_next_one_does(
    modern: Sidecar, decided: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar may have lost only the session, and still count the stream."""
    monkeypatch.setattr("handcounter.client.session.GOODBYE_S", 60.0)
    monkeypatch.setattr("handcounter.client.session.REPORT_S", 3600.0)
    with client_of(modern, decided, deadline=60.0) as limiter:
        limiter.decide([("a", 10.0)])
        limiter.decide([("a", 10.1), ("a", 10.2)])
        modern.end_sessions()
        wait_until(lambda: limiter.decide([("b", 1.0)]) and decided["sidecar"] == 2)  # asked in another session
        limiter.close()
    assert [(report.stream_name, report.too_soon) for report in modern.reports] == [("a", 2)]


def test_a_sidecar_that_hangs_is_noticed_though_nothing_is_asked(
    modern: Sidecar, decided: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An unanswered report ends the session: who can't answer can't drop leases either."""
    with client_of(modern, decided, deadline=0.3) as limiter:
        limiter.decide([("cam", 1.0)])
        modern.silent = True
        wait_until(lambda: limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON] and limiter.away)
        assert "is away" in caplog.messages[0]
        modern.silent = False
        wait_until(lambda: not limiter.away)
