"""The schedule of a stream that a replica is certain of, from which leases are granted, and their revocation."""

from support.models.fleet_model import frame

from handcounter.pacing.schedule import Pacing, Reason
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claims import Missing


class Revocations(LeaseBook):
    """A book that records what is revoked."""

    def __init__(self) -> None:
        super().__init__()
        self.revoked: list[str] = []

    def revoke(self, stream_name: str) -> None:
        self.revoked.append(stream_name)

    def revoke_all(self) -> None:
        self.revoked.append("all")


async def test_changes_by_other_replicas_revoke_leases(redis):
    """Only changes by another replica revoke leases on a stream; the new state is then the certain one."""
    leases = Revocations()
    first, second = redis.replica(leases=leases), redis.replica()
    leases.revoked.clear()
    assert first.certain_schedule("cam", 1.0) is None
    await redis.decide(first, frame(1000))
    await redis.decide(first, frame(1000.5))
    assert leases.revoked == []
    assert first.certain_schedule("cam", 1.0).last_ts == 1000
    await redis.decide(second, frame(1001))
    assert leases.revoked == ["cam"]
    assert first.certain_schedule("cam", 1.0).last_ts == 1001
    redis.clock.now = 5.0
    await redis.decide(second, frame(7))
    assert leases.revoked == ["cam", "cam"]
    assert first.certain_schedule("cam", 1.0).last_ts == 7


async def test_nothing_is_certain_of_what_redis_has_not_heard(redis):
    """The claim that reports an admission without Redis may overrule it."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(1000))
    redis.reachable = False
    await redis.decide(fleet, frame(1010))
    assert fleet.certain_schedule("cam", 1.0) is None
    redis.reachable = True
    await redis.decide(fleet, frame(1020))
    assert fleet.certain_schedule("cam", 1.0).last_ts == 1020


async def test_during_a_gap_nothing_is_certain(redis):
    """A gap revokes all leases, at both its ends."""
    leases = Revocations()
    fleet = redis.replica(leases=leases)
    await redis.decide(fleet, frame(1000))
    leases.revoked.clear()
    fleet.set_listening(False)
    fleet.set_listening(True)
    assert leases.revoked == ["all", "all"]
    assert fleet.certain_schedule("cam", 1.0) is None
    await redis.decide(fleet, frame(1001))
    assert fleet.certain_schedule("cam", 1.0).last_ts == 1001


async def test_the_schedule_is_that_of_the_newest_admission(redis):
    """Of an admission without Redis, too; there is none of an unknown stream."""
    fleet = redis.replica()
    assert fleet.schedule("cam") is None
    await redis.decide(fleet, frame(100))
    assert fleet.schedule("cam") == (100, 100, 0)
    redis.reachable, redis.clock.now = False, 5.0
    await redis.decide(fleet, frame(105))
    assert fleet.schedule("cam")[1:] == (105, 5)


async def test_nothing_is_certain_while_a_late_frame_may_be_admitted(redis):
    """A frame that fits between two recent admissions isn't denied."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(100.0, fps=10.0), frame(100.2, fps=10.0))
    assert fleet.certain_schedule("cam", 10.0) is None
    assert fleet.certain_schedule("cam", 5.0).last_ts == 100.2


async def test_nothing_is_certain_while_an_admission_is_unspent(redis):
    """The next frame gets it; leases are revoked as soon as it is there."""
    leases = Revocations()
    fleet = redis.replica(leases=leases, replicas=2)
    await redis.decide(fleet, frame(100))
    redis.reachable, redis.missing = False, Missing.LATE
    await redis.decide(fleet, frame(101))
    leases.revoked.clear()
    redis.answer_late()
    assert set(leases.revoked) == {"cam"}
    assert fleet.certain_schedule("cam", 1.0) is None
    assert await redis.decide(fleet, frame(101.5)) == [Reason.ADMITTED]
    assert fleet.certain_schedule("cam", 1.0).last_ts == 101


async def test_min_gap_counts_from_the_frame_that_spends_an_admission(redis):
    """Redis knows an earlier frame as the last admitted one, so the next claim reports the later one."""
    fleet = redis.replica(replicas=2, pacing=Pacing.MIN_GAP)
    await redis.decide(fleet, frame(100))
    redis.reachable, redis.missing = False, Missing.LATE
    await redis.decide(fleet, frame(101))
    redis.answer_late()
    redis.reachable = True
    assert await redis.decide(fleet, frame(101.8), frame(102.3)) == [Reason.ADMITTED, Reason.TOO_SOON]
    assert redis.calls[-1][0].known[:2] == (101.8, 101.8)
