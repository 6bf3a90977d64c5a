"""Fleet scope: replicas that share one schedule per stream, through claims in Redis.

Each replica keeps a copy of what it heard last of each stream. A frame that the rule (see ``reorder``) denies by this
copy is denied without Redis: the true state can only be the copy or one after it, and a frame that is too soon, late or
a duplicate for the copy is so for whatever came after. Only a frame that would be admitted is claimed. Winners publish the new
state, so all copies are current, and Redis sees about one call per admitted frame. While what others publish isn't
heard, copies aren't trusted, and each frame is claimed.

While Redis is away or slow, each replica paces by itself at fps / replicas, from its copy on. Replicas take turns: the
one in place p of n (see ``heartbeat``) makes its first admission n + p periods after the fleet's last one, so together
they keep the rate without admitting in step. While Redis is only found to be late, frames that wait for it are denied,
so that an answer that is late now and then admits nothing too much.

What was admitted alone is told to Redis with the stream's next claim, and moves the shared schedule on; credit for
lateness isn't carried over. So neither the loss of Redis nor its return is a burst, and a Redis that lost its data
learns it anew from the copies.

A frame that Redis admitted too late was denied meanwhile, so the admission is still to be had: the stream's next frame
at this replica gets it. Else a Redis that is always a little late would starve its streams. Only an admission between
earlier ones is lost with its frame.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from handcounter.pacing.schedule import CREDIT_PERIODS, Pacing, Reason, Schedule, decide
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claims import NO_STATE, UNMERGED, Claim, Claimed, Missing, State
from sidecar.fleet.reorder import Trail, takes_late_frames
from sidecar.fleet.reorder import decide as decide_reordered


class Frame(NamedTuple):
    """One frame to decide."""

    stream_name: str
    ts: float
    fps: float
    """The limit in force, frames per second."""


class Verdict(NamedTuple):
    """The answer for one frame."""

    reason: Reason
    schedule: Schedule | None
    """The stream's state after it, on this process's clock, as far as is known here."""
    alone: bool
    """Whether Redis was out of reach, so that this replica decided by itself, at its share of the fps."""


class Claims(Protocol):
    """Decides frames in Redis; see :class:`claim_queue.ClaimQueue`."""

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | Missing]:
        """Gives an answer for each claim, in their order."""


class _Copy:
    """What this replica knows of one stream, on this process's clock."""

    __slots__ = ("alone", "gap", "granted", "trail", "version")

    def __init__(self) -> None:
        self.trail: Trail | None = None
        self.version = 0.0
        self.gap = -1
        """The number of the last gap in hearing others before this copy was confirmed."""
        self.granted = -1.0
        """The version of a state whose admission came too late for its frame, so another frame may have it."""
        self.alone: Schedule | None = None
        """The schedule after admissions that Redis hasn't heard of; None if there are none."""

    @property
    def schedule(self) -> Schedule | None:
        """The shared schedule, as far as is known."""
        return self.trail.schedule if self.trail is not None else None

    def told(self, now: float) -> State:
        """The state that a claim tells Redis."""
        if self.alone is not None:
            return State(self.alone.last_ts, self.alone.last_ts, now - self.alone.admitted_at, UNMERGED)
        if self.trail is not None:
            (slot, last_ts, admitted_at), base, earlier = self.trail
            return State(slot, last_ts, now - admitted_at, self.version, base, earlier)
        return NO_STATE


class Fleet:
    """Decides frames together with the other replicas."""

    def __init__(
        self,
        clock: Callable[[], float],
        leases: LeaseBook,
        *,
        pacing: Pacing = Pacing.GCRA,
        replicas: int = 1,
    ) -> None:
        """Builds a fleet of which nothing is known yet.

        Args:
            clock: real time, seconds, monotonic.
            pacing: how a schedule moves on.
            leases: the leases that a state of Redis revokes which isn't the known one, and that a gap revokes.
            replicas: how many replicas there are, until heartbeats tell.
        """
        self._clock = clock
        self._pacing = pacing
        self._leases = leases
        self._copies: dict[str, _Copy] = {}
        self._gap = 0
        self._listening = False
        self.replicas = replicas
        """How many replicas share the limits, as far as is known."""
        self.alone_count = 0
        """Frames decided without Redis so far."""
        self._place = 0

    async def decide(self, frames: Sequence[Frame], claims: Claims) -> list[Verdict]:
        """Decides frames in their order, as if one by one."""
        verdicts: list[Verdict] = []
        claimed: list[Claim] = []
        places: list[int] = []
        claiming: set[str] = set()
        now = self._clock()
        for frame in frames:
            stream_name, ts, fps = frame
            copy = self._copies.get(stream_name)
            if stream_name not in claiming:
                verdict = self._by_copy(copy, ts, fps, now)
                if verdict is not None:
                    verdicts.append(verdict)
                    continue
                # Later frames of this stream depend on this one.
                claiming.add(stream_name)
            if copy is None:
                copy = self._copies[stream_name] = _Copy()
            places.append(len(verdicts))
            verdicts.append(_UNDECIDED)
            claimed.append(Claim(stream_name, ts, fps, copy.told(now), self._gap))
        if claimed:
            answers = await claims.claim(claimed)
            for place, answer in zip(places, answers, strict=True):
                frame = frames[place]
                if isinstance(answer, Missing):
                    verdicts[place] = self._decide_alone(frame, answer)
                else:
                    trail = self._trail(answer.state)
                    verdicts[place] = Verdict(answer.reason, trail.schedule if trail else None, alone=False)
        return verdicts

    def schedule(self, stream_name: str) -> Schedule | None:
        """The state of a stream as far as is known; None if nothing is."""
        copy = self._copies.get(stream_name)
        return (copy.alone or copy.schedule) if copy else None

    def certain(self, stream_name: str, fps: float) -> Schedule | None:
        """The state of a stream if what it denies at this fps is certain to be denied."""
        copy = self._copies.get(stream_name)
        if copy is None or copy.trail is None or copy.alone is not None or copy.granted == copy.version:
            return None
        if not self._listening or copy.gap != self._gap or takes_late_frames(copy.trail, fps, self._pacing):
            return None
        return copy.trail.schedule

    def forget(self, stream_name: str) -> None:
        """Drops the copy of a stream."""
        self._copies.pop(stream_name, None)

    def answered(self, claim: Claim, answer: Claimed, late: bool = False) -> None:
        """Takes in the answer to a claim; a late one finds its frame decided otherwise."""
        copy = self._copies.get(claim.stream_name)
        if copy is None:
            return
        alone = copy.alone
        told_all = alone is not None and claim.known.version == UNMERGED and claim.known.last_ts == alone.last_ts
        if told_all:
            copy.alone = None
        # What others changed after this answer and before a gap ended was not heard: it confirms nothing for now.
        self._learn(copy, claim.stream_name, answer.state, claim.gap)
        # A place among earlier admissions is of no use to a frame after them: it would come too soon after the last one.
        in_order = answer.state.last_ts == claim.ts
        if late and in_order and answer.reason is Reason.ADMITTED and (alone is None or alone.last_ts != claim.ts):
            copy.granted = answer.state.version
            self._leases.revoke(claim.stream_name)

    def heard(self, stream_name: str, state: State) -> None:
        """Takes in a state that was published. Streams that this replica was never asked about are of no interest."""
        copy = self._copies.get(stream_name)
        if copy is not None:
            self._learn(copy, stream_name, state, self._gap)

    def listening(self, listens: bool) -> None:
        """Takes note that what others publish is heard from now on, or no more."""
        self._listening = listens
        self._gap += 1
        self._leases.revoke_all()

    def counted(self, replicas: int, place: int) -> None:
        """Takes note of how many replicas there are, and of this one's place among them, from 0."""
        self.replicas, self._place = replicas, place

    def _learn(self, copy: _Copy, stream_name: str, state: State, gap: int) -> None:
        if state.version < copy.version or state.version == 0.0:
            return  # old news that arrives late
        copy.gap = max(copy.gap, gap)
        if state.version == copy.version:
            return
        before = copy.trail
        copy.trail = self._trail(state)
        copy.version = state.version
        if before is not None:
            self._leases.revoke(stream_name)

    def _by_copy(self, copy: _Copy | None, ts: float, fps: float, now: float) -> Verdict | None:
        """The verdict on a frame that needs no claim; None for one that needs it."""
        trail = copy.trail if copy is not None else None
        if copy is not None and copy.granted == copy.version and self._takes_grant(copy, ts, fps, now):
            return Verdict(Reason.ADMITTED, copy.alone or copy.schedule, alone=False)
        if fps != 0.0:
            if copy is None or trail is None or not self._listening or copy.gap != self._gap:
                return None
            if copy.alone is not None:
                return None  # the sooner Redis hears of it, the better
        reason, _ = decide_reordered(trail, ts, fps, now, self._pacing)
        return None if reason is Reason.ADMITTED else Verdict(reason, trail.schedule if trail else None, alone=False)

    def _takes_grant(self, copy: _Copy, ts: float, fps: float, now: float) -> bool:
        schedule = copy.schedule
        if schedule is None or copy.alone is not None or fps == 0.0:
            return False
        if not schedule.last_ts < ts <= schedule.slot + CREDIT_PERIODS / fps:
            return False  # more would be later than the rule forgives
        copy.granted = -1.0
        if self._pacing is Pacing.MIN_GAP:
            copy.alone = Schedule(ts, ts, now)  # the gap counts from this frame
        return True

    def _decide_alone(self, frame: Frame, missing: Missing) -> Verdict:
        stream_name, ts, fps = frame
        copy = self._copies.get(stream_name)
        if copy is None:
            copy = _Copy()  # forgotten while it waited
        self.alone_count += 1
        if missing is Missing.LATE and self.replicas > 1 and fps != 0.0:
            # Redis is there, only not for us: others may be admitted right now.
            return Verdict(Reason.TOO_SOON, copy.alone or copy.schedule, alone=True)
        share = fps / self.replicas
        decision = decide(self._alone(copy, fps), ts, share, self._clock(), self._pacing)
        if decision.admitted:
            copy.alone = decision.schedule
        return Verdict(decision.reason, decision.schedule, alone=True)

    def _alone(self, copy: _Copy, fps: float) -> Schedule | None:
        """The schedule by which this replica paces the stream by itself."""
        shared, alone = copy.schedule, copy.alone
        if shared is None:
            return alone
        if alone is None:
            return shared._replace(slot=shared.slot + self._place / fps) if fps else shared
        # Others may still reach Redis, or an answer came late.
        return Schedule(*map(max, shared, alone))

    def _trail(self, state: State) -> Trail | None:
        if state.version == 0.0:
            return None
        return Trail(Schedule(state.slot, state.last_ts, self._clock() - state.age), state.base, state.earlier)


_UNDECIDED = Verdict(Reason.TOO_SOON, None, alone=False)
