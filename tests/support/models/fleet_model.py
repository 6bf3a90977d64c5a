"""A fleet of replicas and its store in one process: the rule in Python, and a clock set by the test."""

from collections.abc import Callable, Sequence
from functools import partial

from handcounter.pacing.schedule import Reason, Schedule
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claims import NO_STATE, UNMERGED, Claim, Claimed, Missing, State
from sidecar.fleet.fleet import Fleet, Frame
from sidecar.fleet.reorder import Trail, decide

VERSION = 1000.0


def frame(ts: float, fps: float = 1.0, name: str = "cam") -> Frame:
    """Returns a frame of a stream with this limit."""
    return Frame(name, ts, fps)


class Clock:
    """Real time, set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Redis:
    """The store of one fleet, with the rule. It answers at once, or when a test says so."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.reachable = True
        self.missing = Missing.UNREACHABLE
        """The reason for missing answers while it is unreachable."""
        self.trails: dict[str, Trail] = {}
        self.version = VERSION
        self.calls: list[list[Claim]] = []
        self.replicas: list[Fleet] = []
        self._unanswered: list[tuple[Claim, Callable[[Claimed], None]]] = []

    def replica(self, **options: object) -> Fleet:
        """Adds a replica that receives what the others publish."""
        fleet = Fleet(self.clock, options.pop("leases", LeaseBook()), **options)
        fleet.set_listening(True)
        self.replicas.append(fleet)
        return fleet

    async def decide(self, fleet: Fleet, *frames: Frame) -> list[Reason]:
        """Lets a replica decide frames."""
        return [verdict.reason for verdict in await fleet.decide(frames, self)]

    async def claim(self, claims: Sequence[Claim], on_answer: Callable[[int, Claimed], None]) -> list[Missing | None]:
        """Answers claims; ``answer_late`` answers those that arrive while it is unreachable."""
        if not self.reachable:
            self._unanswered += [(claim, partial(on_answer, number)) for number, claim in enumerate(claims)]
            return [self.missing] * len(claims)
        self.calls.append(list(claims))
        for number, claim in enumerate(claims):
            self._answer(claim, partial(on_answer, number))
        return [None] * len(claims)

    def answer_late(self, *answers: Claimed) -> None:
        """Answers the claims that have no answer yet, by the rule or as given."""
        unanswered, self._unanswered = self._unanswered, []
        for number, (claim, on_answer) in enumerate(unanswered):
            if answers:
                on_answer(answers[number])
            else:
                self._answer(claim, on_answer)

    def _answer(self, claim: Claim, on_answer: Callable[[Claimed], None]) -> None:
        self._merge(claim)
        reason, trail = decide(self.trails.get(claim.stream_name), claim.ts, claim.fps, self.clock())
        admitted = reason is Reason.ADMITTED
        state = NO_STATE
        if trail is not None:
            self.version += admitted
            self.trails[claim.stream_name] = trail
            (slot, last_ts, admitted_at), base, earlier = trail
            state = State(slot, last_ts, self.clock() - admitted_at, self.version, base, earlier)
        on_answer(Claimed(reason, state))
        if admitted:
            for replica in self.replicas:
                replica.record_change(claim.stream_name, state)

    def _merge(self, claim: Claim) -> None:
        """Advances a stream to what a replica admitted without Redis, as the script does."""
        stored, known = self.trails.get(claim.stream_name), claim.known
        if stored is not None and known.version == UNMERGED:
            self.version += 1
            admitted_at = max(stored.schedule.admitted_at, self.clock() - known.age)
            schedule = Schedule(
                max(stored.schedule.slot, known.slot), max(stored.schedule.last_ts, known.last_ts), admitted_at
            )
            self.trails[claim.stream_name] = Trail(schedule)
