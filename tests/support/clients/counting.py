"""A client that records who decided its frames, for tests with real sidecars."""

from collections import Counter
from typing import Any

import grpc
from support.waiting import wait_until

from handcounter.client import RateLimiter
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc


class CountingClient:
    """A client with a session."""

    def __init__(self, address: str, **options: Any) -> None:
        self.decided: Counter[str] = Counter()
        """Frames by who decided them: "sidecar", "lease" or "local"."""
        self.limiter = RateLimiter(
            address,
            **{
                "default_fps": 1.0,
                "deadline": 10.0,
                "on_decided": lambda by, number: self.decided.update({by: number}),
                **options,
            },
        )
        assert self.limiter.wait_ready(10.0)
        self.channel = grpc.insecure_channel(address)
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(self.channel)

    def decide(self, *frames: tuple[str, float]) -> list[Reason]:
        """Decides frames."""
        return self.limiter.decide(frames)

    def until(self, frame: tuple[str, float], reason: Reason) -> None:
        """Offers a frame until it is decided in this way."""
        wait_until(lambda: self.decide(frame) == [reason], f"{frame} is {reason.name}")

    def limit(self, name: str) -> float:
        """Returns the limit in force for a stream."""
        return self.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name)).fps

    def told(self) -> dict[str, pb.StreamStatus]:
        """Returns a stream's status in the sidecar's ListStreams."""
        return {stream.stream_name: stream for stream in self.stub.ListStreams(pb.ListStreamsRequest()).streams}

    def leases(self) -> int:
        """Returns how many leases it holds."""
        return len(self.limiter._leases)

    def close(self) -> None:
        """Closes it."""
        self.channel.close()
        self.limiter.close()
