"""Replicas that share one schedule per stream, by claims in Redis. No I/O.

Each replica keeps a *local copy* of the newest state that it knows of each stream. A frame that the rule (see
``reorder``) denies by the copy is denied without Redis: the true state is the copy or a later one, and a frame that is
too soon, late or a duplicate by one state is so by all later ones. Only a frame that the copy would admit is claimed.
Redis publishes each state that a claim changes, so all copies are up to date, and Redis is called about once per
admitted frame. During a *gap*, in which a replica doesn't receive what is published, it doesn't trust its copies and
claims every frame.

While Redis is unreachable or too slow, each replica decides without it, at fps / replicas, starting from its copy. The
replicas take turns: with n of them, the one in place p (see ``heartbeat``) admits its first frame n + p periods after
the last shared admission. So together they keep the rate and don't admit in step. If Redis is only too slow, a replica
of several denies the frames that waited for an answer, since Redis may be admitting frames of the others at that
moment.

The next claim of the stream reports the admissions without Redis, and the shared schedule advances to them, without
credit for lateness. So neither the loss of Redis nor its return causes a burst. If Redis lost its data, it takes the
state from the copies.

A frame whose admission arrives too late was denied in the meantime. The admission is *unspent*: the replica's next
frame of the stream gets it. Otherwise a Redis that is always a little too slow would starve its streams. An admission
between earlier ones can't be spent on a later frame, which would come too soon after the last admitted one; it is lost.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from handcounter.pacing.schedule import CREDIT_PERIODS, Pacing, Reason, Schedule, decide
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claims import NO_STATE, UNMERGED, Claim, Claimed, Missing, State
from sidecar.fleet.reorder import Trail, takes_late_frames
from sidecar.fleet.reorder import decide as decide_reordered


class Frame(NamedTuple):
    """One frame to decide."""

    stream_name: str
    ts: StreamTime
    fps: float
    """The limit in force, frames per second."""


class Verdict(NamedTuple):
    """The decision about one frame."""

    reason: Reason
    schedule: Schedule | None
    """The stream's state after it, by this process's clock, as far as this replica knows it."""
    without_redis: bool
    """Whether this replica decided without Redis, at its share of the fps."""


class Claims(Protocol):
    """Decides frames in Redis; see :class:`sidecar.fleet.claim_queue.ClaimQueue`."""

    async def claim(
        self, claims: Sequence[Claim], on_answer: Callable[[int, Claimed], None]
    ) -> Sequence[Missing | None]:
        """Claims frames in their order, and waits a bounded time for the answers.

        Args:
            claims: the claims.
            on_answer: called once per answer when it arrives, with the place of its claim among these. An answer that is too
                late arrives after this has returned.

        Returns:
            For each claim why there is no answer yet; None if there is one.
        """


class _Copy:
    """What this replica knows of one stream, by this process's clock."""

    __slots__ = ("gap", "local_schedule", "trail", "unspent_admission", "version")

    def __init__(self) -> None:
        self.trail: Trail | None = None
        self.version = 0.0
        self.gap = -1
        """The number of the newest gap before this copy was confirmed."""
        self.unspent_admission = -1.0
        """The version of a state whose admission arrived too late for its frame."""
        self.local_schedule: Schedule | None = None
        """The schedule after admissions without Redis that Redis doesn't know of yet; None if there are none."""

    @property
    def shared_schedule(self) -> Schedule | None:
        """The schedule that all replicas share, as far as it is known."""
        return self.trail.schedule if self.trail is not None else None

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the newest admission that is known."""
        return self.local_schedule or self.shared_schedule

    def as_state(self, now: RealTime) -> State:
        """Returns the state that a claim carries to Redis."""
        local = self.local_schedule
        if local is not None:
            return State(local.last_ts, local.last_ts, now - local.admitted_at, UNMERGED)
        if self.trail is not None:
            (slot, last_ts, admitted_at), base, earlier = self.trail
            return State(slot, last_ts, now - admitted_at, self.version, base, earlier)
        return NO_STATE


class Fleet:
    """Decides frames together with the other replicas.

    Args:
        clock: real time, seconds by a monotonic clock.
        leases: the leases that a newer state of a stream, or a gap, revokes.
        pacing: how a slot advances.
        replicas: how many replicas there are until heartbeats count them.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        leases: LeaseBook,
        *,
        pacing: Pacing = Pacing.GCRA,
        replicas: int = 1,
    ) -> None:
        self.replicas = replicas
        """How many replicas share the limits, as far as is known."""
        self.without_redis_count = 0
        """Frames decided without Redis so far."""
        self._clock = clock
        self._leases = leases
        self._pacing = pacing
        self._copies: dict[str, _Copy] = {}
        self._gap = 0
        self._listening = False
        self._place = 0

    async def decide(self, frames: Sequence[Frame], claims: Claims) -> list[Verdict]:
        """Decides frames in their order, as if one by one."""
        verdicts: list[Verdict] = []
        claimed: list[Claim] = []
        places: list[int] = []
        claimed_streams: set[str] = set()
        now = RealTime(self._clock())
        for frame in frames:
            stream_name, ts, fps = frame
            copy = self._copies.get(stream_name)
            if stream_name not in claimed_streams:
                verdict = self._decide_by_copy(copy, ts, fps, now)
                if verdict is not None:
                    verdicts.append(verdict)
                    continue
                claimed_streams.add(stream_name)  # later frames of the stream depend on this one
            if copy is None:
                copy = self._copies[stream_name] = _Copy()
            places.append(len(verdicts))
            verdicts.append(_UNDECIDED)
            claimed.append(Claim(stream_name, ts, fps, copy.as_state(now)))
        if claimed:
            gap, waiting = self._gap, True

            def record(number: int, answer: Claimed) -> None:
                verdict = self._record_answer(claimed[number], answer, gap, late=not waiting)
                if waiting:
                    verdicts[places[number]] = verdict

            try:
                missing = await claims.claim(claimed, record)
            finally:
                waiting = False
            for place, why in zip(places, missing, strict=True):
                if why is not None and verdicts[place] is _UNDECIDED:
                    verdicts[place] = self._decide_without_redis(frames[place], why)
        return verdicts

    def schedule(self, stream_name: str) -> Schedule | None:
        """Returns the state of a stream as far as it is known; None if nothing is known."""
        copy = self._copies.get(stream_name)
        return copy.schedule if copy else None

    def certain_schedule(self, stream_name: str, fps: float) -> Schedule | None:
        """Returns the state of a stream if all that it denies at this fps is certain to be denied until leases are revoked."""
        copy = self._copies.get(stream_name)
        if copy is None or copy.trail is None or copy.local_schedule is not None:
            return None
        if copy.unspent_admission == copy.version or not self._is_current(copy):
            return None
        if takes_late_frames(copy.trail, fps, self._pacing):
            return None
        return copy.trail.schedule

    def forget(self, stream_name: str) -> None:
        """Drops the copy of a stream."""
        self._copies.pop(stream_name, None)

    def record_change(self, stream_name: str, state: State) -> None:
        """Records a published state. States of streams that this replica was never asked about are ignored."""
        copy = self._copies.get(stream_name)
        if copy is not None:
            self._learn(copy, stream_name, state.version, self._trail(state), self._gap)

    def set_listening(self, listening: bool) -> None:
        """Records that a gap begins (False) or ends (True)."""
        self._listening = listening
        self._gap += 1
        self._leases.revoke_all()

    def set_replicas(self, replicas: int, place: int) -> None:
        """Records how many replicas there are, and the place of this one among them, from 0."""
        self.replicas, self._place = replicas, place

    def _record_answer(self, claim: Claim, answer: Claimed, gap: int, *, late: bool) -> Verdict:
        """Learns from the answer to a claim.

        Args:
            claim: the claim.
            answer: its answer.
            gap: the number of the newest gap when it was claimed. What the others changed after this answer and before the end
                of a later gap wasn't received, so then the answer doesn't confirm the copy.
            late: whether the frame was decided otherwise in the meantime.

        Returns:
            The verdict for the frame.
        """
        trail = self._trail(answer.state)
        verdict = Verdict(answer.reason, trail.schedule if trail is not None else None, without_redis=False)
        copy = self._copies.get(claim.stream_name)
        if copy is None:
            return verdict  # the stream was forgotten in the meantime
        local = copy.local_schedule
        if local is not None and claim.known.version == UNMERGED and claim.known.last_ts == local.last_ts:
            copy.local_schedule = None  # Redis knows all of it now
        self._learn(copy, claim.stream_name, answer.state.version, trail, gap)
        in_order = answer.state.last_ts == claim.ts
        admitted_without_redis = local is not None and local.last_ts == claim.ts
        if late and in_order and answer.reason is Reason.ADMITTED and not admitted_without_redis:
            copy.unspent_admission = answer.state.version
            self._leases.revoke(claim.stream_name)
        return verdict

    def _learn(self, copy: _Copy, stream_name: str, version: float, trail: Trail | None, gap: int) -> None:
        if version < copy.version or version == 0.0:
            return  # an older state that arrives late
        copy.gap = max(copy.gap, gap)
        if version == copy.version:
            return
        known_before = copy.trail is not None
        copy.trail, copy.version = trail, version
        if known_before:
            self._leases.revoke(stream_name)

    def _is_current(self, copy: _Copy) -> bool:
        """Returns whether all changes since the copy was confirmed have been received."""
        return self._listening and copy.gap == self._gap

    def _decide_by_copy(self, copy: _Copy | None, ts: StreamTime, fps: float, now: RealTime) -> Verdict | None:
        """Decides a frame that needs no claim; returns None for one that needs it."""
        if copy is None:
            return Verdict(Reason.PAUSED, None, without_redis=False) if fps == 0.0 else None
        if copy.unspent_admission == copy.version and self._spend_admission(copy, ts, fps, now):
            return Verdict(Reason.ADMITTED, copy.schedule, without_redis=False)
        if fps != 0.0 and (copy.trail is None or copy.local_schedule is not None or not self._is_current(copy)):
            return None  # Redis should hear of admissions without it as soon as possible
        reason, _ = decide_reordered(copy.trail, ts, fps, now, self._pacing)
        return None if reason is Reason.ADMITTED else Verdict(reason, copy.shared_schedule, without_redis=False)

    def _spend_admission(self, copy: _Copy, ts: StreamTime, fps: float, now: RealTime) -> bool:
        """Spends the stream's unspent admission on a frame. Returns whether the frame may have it."""
        schedule = copy.shared_schedule
        if schedule is None or copy.local_schedule is not None or fps == 0.0:
            return False
        if not schedule.last_ts < ts <= schedule.slot + CREDIT_PERIODS / fps:
            return False  # the rule gives no credit for more lateness
        copy.unspent_admission = -1.0
        if self._pacing is Pacing.MIN_GAP:
            copy.local_schedule = Schedule(ts, ts, now)  # the gap counts from this frame
        return True

    def _decide_without_redis(self, frame: Frame, missing: Missing) -> Verdict:
        stream_name, ts, fps = frame
        copy = self._copies.get(stream_name)
        if copy is None:
            copy = _Copy()  # the stream was forgotten while the frame waited
        self.without_redis_count += 1
        if missing is Missing.LATE and self.replicas > 1 and fps != 0.0:
            # Redis answers others: it may be admitting their frames right now.
            return Verdict(Reason.TOO_SOON, copy.schedule, without_redis=True)
        share = fps / self.replicas
        decision = decide(self._local_schedule(copy, fps), ts, share, RealTime(self._clock()), self._pacing)
        if decision.admitted:
            copy.local_schedule = decision.schedule
        return Verdict(decision.reason, decision.schedule, without_redis=True)

    def _local_schedule(self, copy: _Copy, fps: float) -> Schedule | None:
        """Returns the schedule by which this replica decides without Redis."""
        shared, local = copy.shared_schedule, copy.local_schedule
        if shared is None:
            return local
        if local is None:
            return shared._replace(slot=StreamTime(shared.slot + self._place / fps)) if fps else shared
        # Other replicas may still reach Redis, or an answer came late.
        return Schedule(
            max(shared.slot, local.slot),
            max(shared.last_ts, local.last_ts),
            max(shared.admitted_at, local.admitted_at),
        )

    def _trail(self, state: State) -> Trail | None:
        if state.version == 0.0:
            return None
        admitted_at = RealTime(self._clock() - state.age)
        return Trail(Schedule(state.slot, state.last_ts, admitted_at), state.base, state.earlier)


_UNDECIDED = Verdict(Reason.TOO_SOON, None, without_redis=False)
