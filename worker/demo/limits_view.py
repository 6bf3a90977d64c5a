"""What the sidecar says is in force."""

from __future__ import annotations

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc
from worker.demo.processes import START_S, DemoError

_TIMEOUT_S = 2.0


class LimitsView:
    """Asks a sidecar for the limits of its streams."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = rate_limit_pb2_grpc.RateLimitServiceStub(self._channel)

    def wait_ready(self) -> None:
        """Waits until the sidecar serves. Raises DemoError if it takes too long."""
        try:
            grpc.channel_ready_future(self._channel).result(START_S)
        except grpc.FutureTimeoutError as error:
            raise DemoError("the sidecar doesn't answer") from error

    def in_force(self) -> dict[str, float]:
        """The fps of each stream that the sidecar has seen. Raises DemoError if it doesn't answer."""
        try:
            answer = self._stub.ListStreams(rate_limit_pb2.ListStreamsRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise DemoError(f"the sidecar doesn't answer: {error.details()}") from error
        return {stream.stream_name: stream.fps for stream in answer.streams}

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()
