"""A client with leases whose messages arrive when the test says so, for the laws of leases."""

from collections import deque
from collections.abc import Callable, Sequence

from support.coroutines import run

from handcounter.client.leases import Denials, Leases
from handcounter.client.wire import read_answers, to_report
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc.session import Sessions

Frames = Sequence[tuple[str, float]]


class LeasedClient:
    """The client's real leases and the sidecar's real session, with a simulated transport between them."""

    def __init__(self, sessions: Sessions, clock: Callable[[], float]) -> None:
        self.sessions = sessions
        self.clock = clock
        self.leases = Leases()
        self.inbox: deque[pb.ShouldProcessSessionResponse] = deque()
        self.unanswered: deque[Frames] = deque()
        self.session = sessions.enter()

    def fetch(self) -> None:
        """Lets the sidecar send its messages."""
        while (message := self.session.outbox.take()) is not None:
            self.inbox.append(pb.ShouldProcessSessionResponse.FromString(message.SerializeToString()))

    def deliver(self, messages: int) -> pb.SessionAnswers | None:
        """Applies this many messages; returns the last answer to a request."""
        self.fetch()
        if not self.inbox:
            return None
        answers = None
        for _ in range(min(messages, len(self.inbox))):
            message = self.inbox.popleft()
            if message.HasField("dropped_leases"):
                if message.dropped_leases.all_streams:
                    self.leases.drop_all()
                self.leases.drop(message.dropped_leases.stream_names)
                continue
            frames = self.unanswered.popleft()
            answers = message.answers if frames else answers
            read = read_answers(message.answers, len(frames))
            assert read is not None
            columns = zip(frames, read.fps, message.answers.last_ts, read.next_ts, strict=True)
            for (name, _), fps, last_ts, next_ts in columns:
                self.leases.grant(name, fps=fps, last_ts=last_ts, next_ts=next_ts)
        return answers

    def has_revocation_underway(self, stream_name: str) -> bool:
        """Whether a revocation of the stream's lease is in transit."""
        self.fetch()
        drops = [message.dropped_leases for message in self.inbox]
        return any(drop.all_streams or stream_name in drop.stream_names for drop in drops)

    def request(self, frames: Frames) -> pb.ShouldProcessSessionRequest:
        """Builds a request with the due reports; its answer is expected from now on."""
        return self._request(frames, self.leases.take_denials(self.clock()))

    def _request(self, frames: Frames, denials: Sequence[Denials]) -> pb.ShouldProcessSessionRequest:
        request = pb.ShouldProcessSessionRequest(
            stream_names=[name for name, _ in frames],
            ts=[ts for _, ts in frames],
            leased_denials=[to_report(each) for each in denials],
        )
        self.unanswered.append(frames)
        return pb.ShouldProcessSessionRequest.FromString(request.SerializeToString())

    def send(self, frames: Frames) -> None:
        """Sends a request that needn't wait, with the due reports."""
        run(self.sessions.ask(self.session, self.request(frames)))

    def ask(self, frames: Frames) -> list[int]:
        """Asks and waits for the answer; everything that was sent before it arrives too."""
        self.send(frames)
        self.fetch()
        number = 1 + max(i for i, message in enumerate(self.inbox) if message.HasField("answers"))
        answers = self.deliver(number)
        assert answers is not None
        return list(answers.reasons)

    def report(self) -> None:
        """Reports leased denials if there are any, as the real session does; the answer may be late."""
        if denials := self.leases.take_denials(self.clock()):
            run(self.sessions.ask(self.session, self._request((), denials)))

    def lose(self) -> None:
        """Loses the session with all messages in transit; opens another one."""
        self.sessions.leave(self.session)
        self.inbox.clear()
        self.unanswered.clear()
        self.leases.drop_all()
        self.session = self.sessions.enter()
