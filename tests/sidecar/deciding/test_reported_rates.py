"""The rates in ListStreams and the metrics, compared with an independent count, with simulated clocks."""

import bisect
import random

import pytest
from support.clients.leased import LeasedClient
from support.coroutines import run
from support.models.sidecar_world import World

from handcounter.client.session import REPORT_S
from handcounter.pacing.schedule import Reason
from sidecar.deciding.limiter import StreamStatus
from sidecar.rpc.session import Sessions
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.stream_metrics import StreamMetrics


class Watched:
    """One camera whose frames are decided one by one, with a record of every admission."""

    def __init__(self) -> None:
        self.world = World(default=1.0)
        self.metrics = StreamMetrics(self.world.roster, self.world.table, 10, clock=lambda: self.world.now)
        self.admitted_at: list[float] = []
        self.asked = 0

    async def status(self) -> StreamStatus:
        """Returns the status in ListStreams."""
        (status,) = await self.world.limiter.list_streams("cam", "", 10)
        return status

    def scraped(self) -> dict[str, float]:
        """Returns the values of /metrics by metric."""
        return {
            sample.name: sample.value
            for metric in self.metrics.collect()
            for sample in metric.samples
            if sample.labels["stream_name"] == "cam"
        }

    def film(self, source_fps: float, seconds: float, jitter: float, chance: random.Random) -> None:
        """Lets the camera run for some time, each frame displaced by up to this many of its periods."""
        world, start, frames = self.world, self.world.now, round(seconds * source_fps)
        decide, random_share = self.decide, chance.random
        for number in range(1, frames + 1):
            world.now = now = start + (number + jitter * (2.0 * random_share() - 1.0)) / source_fps
            if decide(now) == Reason.ADMITTED:
                self.admitted_at.append(now)
        self.asked += frames

    def change(self, field: str, fps: str) -> None:
        """Has the effect of HSET and its push."""
        if field == "*":
            self.world.table.store_wildcard(fps.encode())
        else:
            self.world.set(field, fps)

    def decide(self, ts: float) -> int:
        """Decides one frame that arrives when it is captured."""
        return run(self.world.decider.decide_one("cam", ts, ts)).reason

    async def check(self) -> None:
        """Asserts that both agree with a count over the window within 2 % and one frame."""
        now, times = self.world.now, self.admitted_at
        since = min(now - 10.0, times[-51])
        counted = (len(times) - bisect.bisect_right(times, since)) / (now - since)
        achieved = (await self.status()).achieved_fps
        assert achieved == self.scraped()["sidecar_stream_achieved_fps"]
        assert abs(achieved - counted) <= 0.02 * counted + 1.0 / (now - since)

    def counted_fps(self) -> float:
        """Returns the admissions per second over the longer of 10 s and 50 admissions, from the first to the last."""
        window = max(10.0, self.admitted_at[-1] - self.admitted_at[-min(51, len(self.admitted_at))])
        inside = [at for at in self.admitted_at if at >= self.admitted_at[-1] - window - 1e-9]
        return (len(inside) - 1) / (inside[-1] - inside[0])


class WatchedByLease(Watched):
    """The same through a client that denies under its lease, and reports as often as the real one."""

    def __init__(self) -> None:
        super().__init__()
        sessions = Sessions(self.world.limiter, self.world.leases, Metrics())
        self.client = LeasedClient(sessions, lambda: self.world.now)
        self.report_at = self.world.now + REPORT_S
        self.by_lease = 0

    def film(self, source_fps: float, seconds: float, jitter: float, chance: random.Random) -> None:
        """Lets the camera run, after the client has got what a change of the limit revoked; each answer is waited for."""
        self.client.deliver(100)
        super().film(source_fps, seconds, jitter, chance)

    def decide(self, ts: float) -> int:
        """Decides one frame under the lease, or asks; it arrives when it is captured."""
        if ts >= self.report_at:
            self.report()
        frames = (("cam", ts),)
        (reason,), asked = self.client.leases.deny(frames, ts)
        if asked:
            (number,) = self.client.ask(frames)
            return number
        assert reason is not None
        self.by_lease += 1
        return reason

    def report(self) -> None:
        """Sends a report and waits for the answer."""
        self.client.report()
        self.client.deliver(100)
        self.report_at = self.world.now + REPORT_S


@pytest.mark.parametrize("source_fps", [10.0, 15.0, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("target_fps", [0.2, 0.5, 1.0, 4.9, 5.0, 7.0, 12.5, 20.0, 30.0, float("inf")])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
async def test_rates_are_those_that_one_counts(source_fps: float, target_fps: float, jitter: float) -> None:
    """Configured and achieved fps in ListStreams and the metrics are within 2 % of the admissions."""
    watched = Watched()
    watched.world.set("cam", str(target_fps))
    chance = random.Random(f"{source_fps} {target_fps}")
    watched.film(source_fps, 1.2 * max(10.0, 50 / target_fps) + 1, jitter, chance)
    for _ in range(10):
        watched.film(source_fps, chance.uniform(0.0, 3.0) + 1 / source_fps, jitter, chance)
        status, scraped = await watched.status(), watched.scraped()
        counted = watched.counted_fps()
        assert status.achieved_fps == pytest.approx(counted, rel=0.02)
        assert scraped["sidecar_stream_achieved_fps"] == pytest.approx(counted, rel=0.02)
        assert status.achieved_fps == pytest.approx(min(source_fps, target_fps), rel=0.02)
        assert status.fps == scraped["sidecar_stream_fps"] == target_fps
        assert scraped["sidecar_stream_admitted_total"] == status.admitted == len(watched.admitted_at)
        assert status.admitted + status.denied == watched.asked


CHANGES = [(20.0, 2.0), (0.5, 10.0), (5.0, 0.5), (2.0, 20.0), (30.0, 1.0), (1.0, 30.0), (10.0, 5.0), (7.0, 3.0)]


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("kind", [Watched, WatchedByLease])
@pytest.mark.parametrize("field", ["cam", "*"])
async def test_a_changed_limit_begins_another_window(
    before: float, after: float, kind: type[Watched], field: str
) -> None:
    """From the second admission under the new limit on, only the admissions under it count, by whichever field it changed.

    Until then it is the rate before the change, but at most the limit.
    """
    watched, chance = kind(), random.Random(f"{before} {after}")
    watched.change(field, str(before))
    watched.film(30.0, 1.2 * max(10.0, 50 / before) + 1, 0.1, chance)
    watched.change(field, str(after))
    assert (await watched.status()).fps == watched.scraped()["sidecar_stream_fps"] == after
    admitted_before, changed_at = len(watched.admitted_at), watched.world.now
    window = max(10.0, 50 / after)
    while watched.world.now < changed_at + 1.2 * window:
        watched.film(30.0, chance.uniform(0.1, 1.0), 0.1, chance)
        under_it = watched.admitted_at[admitted_before:]
        achieved = (await watched.status()).achieved_fps
        assert achieved == watched.scraped()["sidecar_stream_achieved_fps"]
        if len(under_it) < 2:
            assert achieved == pytest.approx(min(before, after), rel=0.02)
        elif watched.world.now < changed_at + window:
            frames, elapsed = len(under_it) - 1, under_it[-1] - under_it[0]
            counted = frames / max(elapsed, watched.world.now - under_it[0] - elapsed / frames)
            assert achieved == pytest.approx(min(counted, after), rel=0.02)
        else:
            await watched.check()
    assert watched.scraped()["sidecar_stream_achieved_fps"] == pytest.approx(after, rel=0.02)


@pytest.mark.parametrize("sources", [(30.0, 3.0), (3.0, 30.0), (30.0, 8.0)])
async def test_a_changed_source_is_reported_as_counted(sources: tuple[float, float]) -> None:
    """The rates of a camera that slows down below its limit, or speeds up again, also follow the window."""
    watched, chance = Watched(), random.Random(f"{sources}")
    watched.world.set("cam", "20")
    watched.film(sources[0], 60.0, 0.1, chance)
    changed_at = watched.world.now
    while watched.world.now < changed_at + 60.0:
        watched.film(sources[1], chance.uniform(0.4, 1.0), 0.1, chance)
        await watched.check()


async def test_a_silent_stream_achieves_nothing() -> None:
    """Both are 0 from 5 s after a stream's last frame on, and not before; its counters stay."""
    watched = Watched()
    watched.film(30.0, 20.0, 0.0, random.Random(1))
    admitted = len(watched.admitted_at)
    watched.world.now += 4.9
    assert (await watched.status()).achieved_fps == watched.scraped()["sidecar_stream_achieved_fps"] > 0.0
    watched.world.now += 0.11
    assert (await watched.status()).achieved_fps == watched.scraped()["sidecar_stream_achieved_fps"] == 0.0
    assert watched.scraped()["sidecar_stream_admitted_total"] == admitted


@pytest.mark.parametrize("fps", [0.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("paused_s", [0.9, 20.0, 90.0])
@pytest.mark.parametrize("kind", [Watched, WatchedByLease])
async def test_a_pause_is_no_part_of_a_rate(fps: float, paused_s: float, kind: type[Watched]) -> None:
    """A paused stream achieves nothing, from the change on; a resumed one its rate, from the second admission on."""
    watched, chance = kind(), random.Random(1)
    watched.world.set("cam", str(fps))
    watched.film(30.0, max(20.0, 70 / fps), 0.0, chance)
    watched.world.set("cam", "0")
    for step_s in (0.0, paused_s):
        watched.film(30.0, step_s, 0.0, chance)
        status, scraped = await watched.status(), watched.scraped()
        assert (status.achieved_fps, status.fps) == (0.0, 0.0)
        assert (scraped["sidecar_stream_achieved_fps"], scraped["sidecar_stream_fps"]) == (0.0, 0.0)
    watched.world.set("cam", str(fps))
    admitted_before = len(watched.admitted_at)
    while len(watched.admitted_at) < admitted_before + 2:
        watched.film(30.0, 0.1, 0.0, chance)
        assert (await watched.status()).achieved_fps <= fps
    for _ in range(10):
        watched.film(30.0, 1 / fps, 0.0, chance)
        achieved = (await watched.status()).achieved_fps
        assert achieved == watched.scraped()["sidecar_stream_achieved_fps"] == pytest.approx(fps, rel=0.1)


async def test_a_wildcard_changes_no_rate_of_streams_with_a_field_of_their_own() -> None:
    """Their window goes on."""
    watched, chance = Watched(), random.Random(1)
    watched.world.set("cam", "2")
    watched.film(30.0, 60.0, 0.0, chance)
    before = (await watched.status()).achieved_fps
    watched.change("*", "0.1")
    assert (await watched.status()).achieved_fps == before
    watched.film(30.0, 10.0, 0.0, chance)
    await watched.check()


@pytest.mark.parametrize("source_fps", [15.0, 29.97, 60.0])
@pytest.mark.parametrize("target_fps", [0.05, 0.5, 1.0, 5.0, 7.0])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
async def test_rates_are_the_same_where_leases_deny(source_fps: float, target_fps: float, jitter: float) -> None:
    """Rates, speed and counters are within 2 % of a count at the camera, although the sidecar is asked about few frames.

    This includes a stream so slow that leases deny all its frames for longer than the time that counts as silence.
    """
    watched = WatchedByLease()
    watched.world.set("cam", str(target_fps))
    chance = random.Random(f"{source_fps} {target_fps}")
    watched.film(source_fps, 1.2 * max(10.0, 50 / target_fps) + 1, jitter, chance)
    for _ in range(10):
        watched.film(source_fps, chance.uniform(0.0, 3.0) + 1 / source_fps, jitter, chance)
        status, scraped, counted = await watched.status(), watched.scraped(), watched.counted_fps()
        assert status.achieved_fps == scraped["sidecar_stream_achieved_fps"] == pytest.approx(counted, rel=0.02)
        assert status.achieved_fps == pytest.approx(target_fps, rel=0.02)
        assert status.fps == scraped["sidecar_stream_fps"] == target_fps
        assert status.speed == pytest.approx(1.0, rel=0.02)
        assert scraped["sidecar_stream_admitted_total"] == status.admitted == len(watched.admitted_at)
        unreported = watched.asked - status.admitted - status.denied
        assert 0 <= unreported <= (REPORT_S + 2 / source_fps) * source_fps
    watched.report()
    status = await watched.status()
    assert status.admitted + status.denied == sum(watched.world.roster.decisions) == watched.asked
    assert status.last_reason is Reason.TOO_SOON or status.last_ts == watched.admitted_at[-1]
    assert watched.by_lease >= watched.asked - 3 * len(watched.admitted_at)


@pytest.mark.parametrize("fps", ["0.05", "0", "1"])
async def test_a_leased_stream_is_silent_when_its_camera_is(fps: str) -> None:
    """A stream whose frames are denied by leases isn't silent; 5 s after the last of them both rates are 0."""
    watched = WatchedByLease()
    watched.film(30.0, 20.0, 0.0, random.Random(1))
    watched.world.set("cam", fps)
    watched.film(30.0, 8.0, 0.0, random.Random(1))
    last_frame_at = watched.world.now
    watched.world.now += REPORT_S
    watched.report()
    watched.world.now = last_frame_at + 4.99
    achieved = (await watched.status()).achieved_fps
    assert achieved == watched.scraped()["sidecar_stream_achieved_fps"]
    assert (achieved > 0.0) == (fps != "0")
    watched.world.now = last_frame_at + 5.01
    assert (await watched.status()).achieved_fps == watched.scraped()["sidecar_stream_achieved_fps"] == 0.0
    assert (await watched.status()).denied == watched.asked - len(watched.admitted_at)
