"""The limits in force, as the sidecar reports them."""

from __future__ import annotations

import contextlib
import time

import grpc

from handcounter.client.channel import open_channel
from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc
from worker.demo.processes import START_S, Child, DemoError

_TIMEOUT_S = 30.0
_POLL_S = 0.05


class LimitsView:
    """Reads the limits of a sidecar's streams."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)
        self._stub = rate_limit_pb2_grpc.RateLimitServiceStub(self._channel)

    def wait_ready(self, sidecar: Child) -> None:
        """Waits until the sidecar serves. Raises DemoError if it exits, or takes too long."""
        ready, deadline = grpc.channel_ready_future(self._channel), time.monotonic() + START_S
        try:
            while time.monotonic() < deadline:
                sidecar.check()
                with contextlib.suppress(grpc.FutureTimeoutError):
                    ready.result(_POLL_S)
                    return
        finally:
            ready.cancel()
        raise DemoError(f"the sidecar doesn't answer{sidecar.last_lines()}")

    def in_force(self) -> dict[str, float]:
        """Returns the fps of each stream that the sidecar knows. Raises DemoError if it doesn't answer."""
        try:
            answer = self._stub.ListStreams(rate_limit_pb2.ListStreamsRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise DemoError(f"the sidecar doesn't answer: {error.details()}") from error
        return {stream.stream_name: stream.fps for stream in answer.streams}

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()
