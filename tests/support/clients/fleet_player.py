"""Plays streams to a fleet of sidecars: each frame goes to a random sidecar, and some sidecars get frames later than others."""

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence

import grpc
from support.processes.sidecars import SidecarProcess

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc


class Player:
    """Counts what a fleet admits. Stream time passes as fast as answers arrive."""

    def __init__(self, sidecars: Sequence[SidecarProcess], seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._channels = [grpc.insecure_channel(sidecar.address) for sidecar in sidecars]
        self.stubs = [rate_limit_pb2_grpc.RateLimitServiceStub(channel) for channel in self._channels]
        self.now = 1000.0
        """The current stream time, seconds."""

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            channel.close()

    def play(
        self, streams: Mapping[str, float], seconds: float, replicas: int | None = None, skew_s: float = 0.0
    ) -> dict[str, list[float]]:
        """Plays streams for some seconds of their time.

        Args:
            streams: the source's frames per second, by stream.
            seconds: the length in stream time.
            replicas: how many of the sidecars take part, counted from the first.
            skew_s: how much later the last replica decides than the first one; the others are in between.

        Returns:
            The ts of the admitted frames, by stream, in the order of their decisions.
        """
        count = replicas or len(self.stubs)
        frames = []
        for name, fps in streams.items():
            phase = self._random.random() / fps
            for number in range(int(seconds * fps)):
                replica = self._random.randrange(count)
                ts = self.now + phase + number / fps
                frames.append((ts + skew_s * replica / max(1, count - 1), replica, name, ts))
        frames.sort()
        admitted: dict[str, list[float]] = {name: [] for name in streams}
        for batch in _runs(frames):
            replica = batch[0][1]
            request = pb.ShouldProcessBatchRequest(
                stream_names=[name for _, _, name, _ in batch], ts=[ts for _, _, _, ts in batch]
            )
            answer = self.stubs[replica].ShouldProcessBatch(request, timeout=120)
            for (_, _, name, ts), yes in zip(batch, answer.should_process, strict=True):
                if yes:
                    admitted[name].append(ts)
        self.now += seconds
        return admitted


def _runs(frames: Sequence[tuple[float, int, str, float]]) -> Iterator[list[tuple[float, int, str, float]]]:
    """Yields runs of neighbouring frames of one replica, each at most 5 ms long."""
    run: list[tuple[float, int, str, float]] = []
    for frame in frames:
        if run and (frame[1] != run[0][1] or frame[0] > run[0][0] + 0.005):
            yield run
            run = []
        run.append(frame)
    if run:
        yield run


@contextlib.contextmanager
def player(sidecars: Sequence[SidecarProcess], seed: int = 1) -> Iterator[Player]:
    """Yields a player and closes its channels at the end."""
    playing = Player(sidecars, seed)
    try:
        yield playing
    finally:
        playing.close()


def most_over_law(admitted: Sequence[float], fps: float, burst: float) -> float:
    """Returns by how many frames the worst window exceeds W * fps + burst; at most 0 if the law holds."""
    ordered = sorted(admitted)
    # With v = count - ts * fps, a window from i to j holds 1 + v[j] - v[i] more than W * fps.
    worst, least = -burst, float("inf")
    for count, ts in enumerate(ordered):
        value = count - ts * fps
        least = min(least, value)
        worst = max(worst, 1 + value - least - burst)
    return worst
