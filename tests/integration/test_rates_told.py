"""The rates in ListStreams and /metrics of a real sidecar, compared with a count at a real client with leases."""

import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.clients.counting import CountingClient
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.valkey import valkey
from support.waiting import wait_until

from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

SOURCE_FPS = 60.0
WINDOW_S = 10.0
SILENCE_S = 5.0


def scraped(sidecar: SidecarProcess) -> dict[tuple[str, str], float]:
    """Returns the values of /metrics by metric and its only label."""
    text = urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=10).read().decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Camera:
    """A camera in real time, which records the frames that its client admits."""

    def __init__(self, name: str, client: CountingClient) -> None:
        self.name = name
        self.client = client
        self.admitted_at: list[float] = []
        self.asked = 0
        self.last_frame_at = 0.0

    def film(self) -> None:
        """Captures one frame."""
        self.asked += 1
        self.last_frame_at = time.monotonic()
        (reason,) = self.client.decide((self.name, time.time()))
        if reason is Reason.ADMITTED:
            self.admitted_at.append(time.monotonic())

    def counted_fps(self) -> float:
        """Returns the admissions per second over the window, from the first to the last."""
        since = min(self.admitted_at[-1] - WINDOW_S, self.admitted_at[-51]) - 1e-3
        inside = [at for at in self.admitted_at if at >= since]
        return (len(inside) - 1) / (inside[-1] - inside[0])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_rates_are_those_that_one_counts() -> None:
    """Configured and achieved fps agree within 2 %, although leases deny most frames; after 5 s of silence it is 0."""
    with valkey() as redis, sidecar_process(redis_url=redis.url) as sidecar:
        with redis.client() as connection:
            connection.hset("stream_fps_configs", mapping={"cam": "5", "fast": "12.5", "paused": "0"})
        client = CountingClient(sidecar.address)
        cameras = [Camera(name, client) for name in ("cam", "fast", "paused")]
        limits = {"cam": 5.0, "fast": 12.5, "paused": 0.0}
        began = due = checked_at = time.monotonic()
        agreed = 0
        # A busy machine may count badly at times, so the rates must be right for three consecutive seconds.
        while agreed < 3 and time.monotonic() < began + 90.0:
            for camera in cameras:
                camera.film()
            due = max(due + 1 / SOURCE_FPS, time.monotonic() - 0.1)  # a camera doesn't catch up on missed frames
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if now < began + 1.1 * WINDOW_S or now < checked_at + 1.0:
                continue
            checked_at = now
            told, metrics = client.told(), scraped(sidecar)
            right = []
            for camera in cameras:
                status, fps = told[camera.name], limits[camera.name]
                counted = camera.counted_fps() if fps else 0.0
                achieved = metrics["sidecar_stream_achieved_fps", camera.name]
                assert status.fps == metrics["sidecar_stream_fps", camera.name] == fps
                right += [each == pytest.approx(counted, rel=0.02) for each in (status.achieved_fps, achieved)]
                right.append(status.speed == pytest.approx(1.0, rel=0.02))
            agreed = agreed + 1 if all(right) else 0
        assert agreed == 3
        assert client.decided["lease"] > 0.6 * sum(client.decided.values())

        def silent() -> bool:
            told = client.told()
            if any(told[camera.name].achieved_fps for camera in cameras[:2]):
                return False
            metrics = scraped(sidecar)
            return all(metrics["sidecar_stream_achieved_fps", camera.name] == 0.0 for camera in cameras)

        wait_until(silent, "silence", every_s=0.05)
        assert time.monotonic() - cameras[0].last_frame_at >= SILENCE_S
        told, metrics = client.told(), scraped(sidecar)
        for camera in cameras:
            status = told[camera.name]
            assert status.admitted + status.denied == camera.asked
            assert status.admitted == metrics["sidecar_stream_admitted_total", camera.name] == len(camera.admitted_at)
        assert told["paused"].last_reason == pb.REASON_PAUSED
        assert metrics["sidecar_leased_denials_total", ""] == client.decided["lease"]
        client.close()
