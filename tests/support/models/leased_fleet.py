"""Replicas in fleet scope with leases, in one process: the real rule on a real server; everything between is simulated.

Claims, answers, messages between replicas, changes of limits and messages to clients arrive when the test says so.
A replica's coroutines are stepped by the test, so there is no event loop, and all time is simulated.
"""

import contextlib
import copy
import functools
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from support.clients.leased import Frames, LeasedClient
from support.coroutines import run
from support.models.timed_claims import Server

from handcounter.pacing.schedule import LATE_WINDOW_S, Pacing, Reason, Schedule
from sidecar.deciding.decider import Batch
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.deciding.roster import Roster
from sidecar.fleet import claims
from sidecar.fleet.claims import Claim, Claimed, Missing, State
from sidecar.fleet.decider import FleetDecider
from sidecar.fleet.fleet import Fleet, Frame, Verdict
from sidecar.limits.table import FpsTable
from sidecar.rpc.session import Sessions
from sidecar.telemetry.metrics import Metrics

OnAnswer = Callable[[int, Claimed], None]

metrics = functools.cache(Metrics)
"""Returns metrics that nobody reads, the same for all replicas: making others takes longer than a short history."""


class Call:
    """A call to the claim script in transit."""

    def __init__(self, asked: Sequence[Claim], on_answer: OnAnswer) -> None:
        self.asked = asked
        self.on_answer = on_answer
        self.reply: list[Claimed] | None = None
        """What the server answered, once the call reached it."""
        self.missing: list[Missing | None] | None = None
        """What ends the wait for it."""

    def __await__(self) -> Any:
        while self.missing is None:
            yield
        return self.missing


class Asking:
    """The claims of one decision."""

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica
        self.claimed: Counter[str] = Counter()
        """How many frames of each stream it holds; they are the last ones of the stream."""

    async def claim(self, asked: Sequence[Claim], on_answer: OnAnswer) -> list[Missing | None]:
        """Sends the claims, if a decision may wait for them."""
        self.claimed.update(claim.stream_name for claim in asked)
        if self._replica.unreachable:
            return [Missing.UNREACHABLE] * len(asked)
        call = Call(asked, on_answer)
        self._replica.pipe.append(call)
        return await call


class Peeking:
    """Answers claims at once, without their effects."""

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica

    async def claim(self, asked: Sequence[Claim], on_answer: OnAnswer) -> list[Missing | None]:
        """Decides as the server would at this moment."""
        if self._replica.unreachable:
            return [Missing.UNREACHABLE] * len(asked)
        [answers] = self._replica.server.peek(asked)
        for number, answer in enumerate(answers):
            on_answer(number, answer)
        return [None] * len(asked)


class Book(LeaseBook):
    """The leases of a replica. A copy of the replica's fleet gets an empty book, so that questions to it revoke nothing."""

    def __deepcopy__(self, _: object) -> LeaseBook:
        return LeaseBook()


class Replica:
    """One sidecar: its fleet, limiter and sessions, and the messages in transit to it."""

    def __init__(self, server: Server, number: int, replicas: int, pacing: Pacing, max_streams: int) -> None:
        self.server = server
        self._ahead_s = 1000.0 * number  # each process has its own real time
        self.leases = Book()
        self.table = FpsTable(1.0, lambda _field, _value: None, self.leases, clock=self.clock, wall_clock=lambda: 0.0)
        self.fleet = Fleet(self.clock, self.leases, pacing=pacing, replicas=replicas)
        self.roster = Roster(self.table, self.leases, max_streams=max_streams, on_evicted=self.fleet.forget)
        decider = FleetDecider(self.roster, self.table, self.leases, self)
        self.limiter = Limiter(self.table, self.roster, decider, self._read_limits, self.clock)
        self.sessions = Sessions(self.limiter, self.leases, metrics())
        self.fleet.set_listening(True)
        self.pipe: deque[Call] = deque()
        self.news: list[tuple[str, State]] = []
        self.changed: set[str] = set()
        """Fields of the hash whose change is in transit."""
        self.subscribed = True
        self.listening = True
        self.unreachable = False
        """Whether decisions don't wait for the server."""
        self.admitted_without_redis = 0
        self.checked = 0
        """How many frames were denied without a claim and compared with one."""
        server.listeners.append(self)

    def clock(self) -> float:
        """Returns real time on this process's clock."""
        return self.server.now + self._ahead_s

    def __deepcopy__(self, _: object) -> "Replica":
        return self

    async def _read_limits(self, stream_names: Collection[str]) -> None:
        self.table.store(stream_names, [self.server.limits.get(name) for name in stream_names])

    # The scope's side of a decider

    @property
    def replicas(self) -> int:
        return self.fleet.replicas

    async def decide(self, frames: Sequence[Frame]) -> list[Verdict]:
        """Decides, and asserts that a claim would also deny what is denied without one, unless there is news."""
        due = self._truths(frames)
        asking = Asking(self)
        verdicts = await self.fleet.decide(frames, asking)
        for frame, truth, verdict in reversed(list(zip(frames, due, verdicts, strict=True))):
            if asking.claimed[frame.stream_name]:
                asking.claimed[frame.stream_name] -= 1
            elif truth is not None and not verdict.without_redis and verdict.reason is not Reason.ADMITTED:
                self.checked += 1
                assert verdict.reason is truth, frame
            self.admitted_without_redis += verdict.without_redis and verdict.reason is Reason.ADMITTED
        return verdicts

    def forget(self, stream_name: str) -> None:
        self.fleet.forget(stream_name)

    def schedule(self, stream_name: str) -> Schedule | None:
        return self.fleet.schedule(stream_name)

    def certain_schedule(self, stream_name: str, fps: float) -> Schedule | None:
        return self.fleet.certain_schedule(stream_name, fps)

    # The truth

    def news_of(self, stream_name: str) -> bool:
        """Whether this replica doesn't know the fleet's state yet."""
        return self.listening != self.subscribed or any(name == stream_name for name, _ in self.news)

    def truth(self, stream_name: str, ts: float) -> Reason:
        """Returns the answer to a claim without a known state."""
        [[answer]] = self.server.peek([Claim(stream_name, ts, self.table.fps(stream_name), claims.NO_STATE)])
        return answer.reason

    def would_say(self, stream_name: str, ts: float) -> Reason:
        """Returns what this replica would answer at this moment."""
        # Trails and schedules never change, so the copy may share them. To copy them takes a fifth of a history's time.
        copies = self.fleet._copies.values()
        shared = {id(each): each for known in copies for each in (known.trail, known.local_schedule)}
        fleet = copy.deepcopy(self.fleet, shared)
        [verdict] = run(fleet.decide([Frame(stream_name, ts, self.table.fps(stream_name))], Peeking(self)))
        return verdict.reason

    def _truths(self, frames: Sequence[Frame]) -> list[Reason | None]:
        """Returns for each frame a claim's answer if the replica must give the same without one."""
        certain = [frame for frame in frames if self._is_certain(frame)]
        asked = [[Claim(name, ts, self.table.fps(name), claims.NO_STATE)] for name, ts, _ in certain]
        answers = iter(self.server.peek(*asked) if asked else ())
        return [next(answers)[0].reason if frame in certain else None for frame in frames]

    def _is_certain(self, frame: Frame) -> bool:
        known = self.fleet.schedule(frame.stream_name)
        restarted = known is not None and frame.ts < known.last_ts - LATE_WINDOW_S
        # Restarts are paced by real time, and the delay of a state's message is unknown.
        return not restarted and not self.news_of(frame.stream_name)

    # Events

    def arrive(self) -> None:
        """Lets the next call reach the server."""
        for call in self.pipe:
            if call.reply is None:
                call.reply = self.server.claim(call.asked)
                return

    def answer(self) -> None:
        """Lets the next reply reach this replica; whatever waited for it continues later."""
        if self.pipe and self.pipe[0].reply is not None:
            call = self.pipe.popleft()
            assert call.reply is not None
            for number, answer in enumerate(call.reply):
                call.on_answer(number, answer)
            call.missing = call.missing or [None] * len(call.reply)

    def hear(self, at: int) -> None:
        """Lets one of the messages arrive, not necessarily the oldest one."""
        if self.news:
            self.fleet.record_change(*self.news.pop(at % len(self.news)))

    def push(self) -> None:
        """Reads the changes of the hash."""
        for field in self.changed:
            if field == "*":
                self.table.store_wildcard(self.server.limits.get("*"))
            elif field in self.table.watched:
                self.table.store([field], [self.server.limits.get(field)])
        self.changed.clear()

    # Faults

    def give_up(self) -> None:
        """Lets an answer take too long: the waiting decisions are made without Redis, and later ones don't wait."""
        for call in self.pipe:
            if call.missing is None:
                call.missing = [Missing.LATE] * len(call.asked)
        self.unreachable = True

    def probe(self) -> None:
        """Lets a probe find the server in time; no older calls are in transit."""
        self.unreachable = self.unreachable and bool(self.pipe)

    def cut(self) -> None:
        """Breaks the connection to the server; which calls reached it is undefined."""
        for call in self.pipe:
            call.missing = call.missing or [Missing.UNREACHABLE] * len(call.asked)
        self.pipe.clear()
        self.unreachable = True

    def unsubscribe(self) -> None:
        """Breaks the subscription and loses the messages in transit; the replica hasn't noticed it yet."""
        self.subscribed = False
        self.news.clear()

    def notice(self) -> None:
        """Lets the replica notice that the subscription is lost, or restored."""
        if self.listening and not self.subscribed:
            self.listening = False
            self.fleet.set_listening(False)
        elif not self.listening:
            self.listening = self.subscribed = True
            self.fleet.set_listening(True)


class Question:
    """A client's request at a replica, which may have to wait for Redis."""

    def __init__(self, work: Coroutine[Any, Any, Any], client: "Client | None") -> None:
        self.work = work
        self.client = client
        self.result: Any = None


class Client(LeasedClient):
    """A client of one replica."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.sessions, replica.clock)
        self.replica = replica
        self.waits: Frames = ()
        """The frames of its request, until it has the answer."""


class LeasedFleet:
    """Replicas, their clients, and the answers to the clients."""

    def __init__(
        self, server: Server, replicas: int, clients_each: int, pacing: Pacing, max_streams: int = 1000
    ) -> None:
        self.server = server
        self.replicas = [Replica(server, number, replicas, pacing, max_streams) for number in range(replicas)]
        for number, replica in enumerate(self.replicas):
            replica.fleet.set_replicas(replicas, number)
        self.clients = [Client(replica) for replica in self.replicas for _ in range(clients_each)]
        self.questions: list[Question] = []
        self.answered: Counter[Reason] = Counter()
        self.admitted: Counter[tuple[str, float]] = Counter()
        """The frames that clients may process."""
        self.offered = 0
        self.by_lease = 0
        self.checked = 0
        """How many denials by a lease were compared with the replica's answer."""

    def frames(self, client: Client, frames: Frames) -> None:
        """Lets a client decide frames; its leases must agree with its replica, unless there is news."""
        if client.waits:
            return
        self.offered += len(frames)
        replica = client.replica
        reasons, open_ones = client.leases.deny(frames, replica.clock())
        for (name, ts), reason in zip(frames, reasons, strict=True):
            if reason is None:
                continue
            self.by_lease += 1
            self.answered[reason] += 1
            if client.has_revocation_underway(name) or replica.news_of(name):
                continue
            self.checked += 1
            assert reason is replica.would_say(name, ts), (name, ts)
            if not replica.unreachable:
                assert reason is replica.truth(name, ts), (name, ts)
        if open_ones:
            client.waits = [frames[index] for index in open_ones]
            request = client.request(client.waits)
            self.step(Question(client.sessions.ask(client.session, request), client))

    def unary(self, replica: Replica, name: str, ts: float) -> None:
        """Asks about a frame without a session."""
        self.offered += 1

        async def asked() -> None:
            answers = await replica.limiter.decide(Batch([name], [ts]))
            self._count(name, ts, answers.reasons[0])

        self.step(Question(asked(), None))

    def step(self, question: Question) -> None:
        """Lets a request continue as far as it can."""
        if question in self.questions:
            self.questions.remove(question)
        try:
            question.work.send(None)
        except StopIteration:
            return
        self.questions.append(question)

    def deliver(self, client: Client, messages: int) -> None:
        """Delivers the messages to a client."""
        answers = client.deliver(messages)
        if answers is not None:
            for (name, ts), reason in zip(client.waits, answers.reasons, strict=True):
                self._count(name, ts, Reason(reason))
            client.waits = ()

    def lose(self, client: Client, cancels: bool) -> None:
        """Breaks a client's session. The client reports before, so that all frames are counted somewhere.

        If that cancels its request, an admission in transit is left for the stream's next frame. Otherwise the request
        continues, and the client never gets the answer.
        """
        if not client.waits:
            client.report()
        for question in [each for each in self.questions if each.client is client]:
            question.client = None
            if cancels:
                self.questions.remove(question)
                with contextlib.suppress(CancelledError):
                    question.work.throw(CancelledError())
        client.lose()
        client.waits = ()

    def set(self, field: str, fps: bytes | None) -> None:
        """Changes the hash in Redis; the replicas read it later."""
        if fps is None:
            self.server.limits.pop(field, None)
        else:
            self.server.limits[field] = fps
        for replica in self.replicas:
            replica.changed.add(field)

    def settle(self) -> None:
        """Lets everything in transit arrive."""
        while self.questions or any(client.waits for client in self.clients):
            for replica in self.replicas:
                while replica.pipe:
                    replica.arrive()
                    replica.answer()
            for question in list(self.questions):
                self.step(question)
            for client in self.clients:
                self.deliver(client, len(client.unanswered) + 1000)
        for replica in self.replicas:
            while replica.news:
                replica.hear(0)
            replica.push()
        for client in self.clients:
            client.report()
            self.deliver(client, 1000)

    def _count(self, name: str, ts: float, reason: Reason) -> None:
        self.answered[reason] += 1
        if reason is Reason.ADMITTED:
            self.admitted[name, ts] += 1
