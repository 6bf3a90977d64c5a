"""A client that asks a sidecar about single frames, to learn the limit in force."""

import grpc
from support.processes.sidecars import SidecarProcess
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
DEFAULT = 7.0
"""The default of the sidecars that it asks, frames per second."""
AWAY, TRACKING, POLLING = pb.REDIS_STATE_AWAY, pb.REDIS_STATE_TRACKING, pb.REDIS_STATE_POLLING


class Asker:
    """A client of a sidecar."""

    def __init__(self, sidecar: SidecarProcess, channel: grpc.Channel) -> None:
        self.sidecar = sidecar
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)

    def ask(self, stream_name: str, ts: float | None = None) -> pb.ShouldProcessResponse:
        """Asks about one frame; any RPC error fails the test."""
        return self.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=stream_name, ts=ts), timeout=120)

    def fps(self, stream_name: str) -> float:
        """Returns the limit in force for a stream, from its next decision."""
        return self.ask(stream_name).fps

    def state(self) -> int:
        """Returns the sidecar's Redis state."""
        return self.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120).redis_state

    def wait_for_fps(self, fps: float, stream_name: str = "cam1") -> None:
        """Waits until decisions use this limit."""
        wait_until(lambda: self.fps(stream_name) == fps, f"{fps} fps for {stream_name}")

    def wait_for_state(self, state: int) -> None:
        """Waits until the sidecar has this Redis state."""
        wait_until(lambda: self.state() == state, f"Redis state {state}")
