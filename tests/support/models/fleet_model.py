"""A fleet of replicas and its store, in one process: the rule in Python, time set by hand."""

from handcounter.pacing.schedule import Reason
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claims import NO_STATE, Claim, Claimed, Missing, State
from sidecar.fleet.fleet import Fleet, Frame
from sidecar.fleet.reorder import Trail, decide

VERSION = 1000.0


class Clock:
    """Real time, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Redis:
    """The store of one fleet with the rule in it; answers each replica at once, or not at all."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.away = False
        self.missing = Missing.AWAY
        self.trails: dict[str, Trail] = {}
        self.version = VERSION
        self.calls: list[list[Claim]] = []
        self.replicas: list[Fleet] = []

    def replica(self, **options: object) -> Fleet:
        """A replica that hears what the others publish."""
        fleet = Fleet(self.clock, options.pop("leases", LeaseBook()), **options)
        fleet.listening(True)
        self.replicas.append(fleet)
        return fleet

    async def decide(self, fleet: Fleet, *frames: Frame) -> list[Reason]:
        """Lets a replica decide frames."""
        self.asking = fleet
        return [verdict.reason for verdict in await fleet.decide(frames, self)]

    async def claim(self, claims):
        if self.away:
            return [self.missing] * len(claims)
        self.calls.append(list(claims))
        answers = []
        for claim in claims:
            reason, trail = decide(self.trails.get(claim.stream_name), claim.ts, claim.fps, self.clock())
            admitted = reason is Reason.ADMITTED
            state = NO_STATE
            if trail is not None:
                self.version += admitted
                self.trails[claim.stream_name] = trail
                (slot, last_ts, admitted_at), base, earlier = trail
                state = State(slot, last_ts, self.clock() - admitted_at, self.version, base, earlier)
            answer = Claimed(reason, state)
            self.asking.answered(claim, answer)
            if admitted:
                for replica in self.replicas:
                    replica.heard(claim.stream_name, state)
            answers.append(answer)
        return answers
