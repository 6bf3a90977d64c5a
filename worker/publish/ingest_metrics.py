"""What a process with many cameras tells Prometheus, read from the cameras' states when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.publish.camera_status import CameraState, CameraStatus


class IngestMetrics(Collector):
    """The metrics, in a registry of their own."""

    def __init__(
        self, statuses: Callable[[], Mapping[str, CameraStatus]], redis_works: Callable[[], bool], most_cameras: int
    ) -> None:
        """Takes what returns the cameras' states, and whether Redis takes frames; and how many cameras have own metrics."""
        self.registry = CollectorRegistry()
        self._statuses = statuses
        self._redis_works = redis_works
        self._most_cameras = most_cameras
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics."""
        statuses = self._statuses()
        states = [status.state for status in statuses.values()]
        cameras = GaugeMetricFamily("hand_counter_cameras", "Cameras of this process, by state.", labels=["state"])
        for state in CameraState:
            cameras.add_metric([state.value], states.count(state))
        yield cameras
        yield GaugeMetricFamily(
            "hand_counter_camera_redis_up", "0 while Redis doesn't take the frames.", value=float(self._redis_works())
        )
        working = GaugeMetricFamily("hand_counter_camera_working", "1 while frames arrive.", labels=["camera"])
        fps = GaugeMetricFamily("hand_counter_camera_source_fps", "Frames per second that arrive.", labels=["camera"])
        ts = GaugeMetricFamily(
            "hand_counter_camera_ts", "Capture time of the last frame that arrived.", labels=["camera"]
        )
        frames = CounterMetricFamily(
            "hand_counter_camera_frames",
            "Frames since the camera's publisher started, by what became of them: published, thinned, dropped.",
            labels=["camera", "outcome"],
        )
        size = CounterMetricFamily("hand_counter_camera_bytes", "Bytes of published pictures.", labels=["camera"])
        for name, status in list(statuses.items())[: self._most_cameras]:
            working.add_metric([name], float(status.state is CameraState.WORKING))
            fps.add_metric([name], status.source_fps)
            if status.ts is not None:
                ts.add_metric([name], status.ts)
            for outcome in ("published", "thinned", "dropped"):
                frames.add_metric([name, outcome], getattr(status, outcome))
            size.add_metric([name], status.bytes)
        yield from (working, fps, ts, frames, size)
