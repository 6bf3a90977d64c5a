"""Simulated cameras: their frames are decided by a real sidecar, and Redis gets what a worker would write about them."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import redis

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

STEP_S = 0.1


@dataclass
class Camera:
    """A camera; hands and fps may be changed while it runs."""

    name: str
    fps: float = 25.0
    hands: int = 2
    silent: bool = False
    received: int = 0
    counted: int = 0
    skipped: int = 0
    _due: float = 0.0


class Cameras:
    """Runs cameras in a thread. As a context manager."""

    def __init__(
        self,
        client: redis.Redis,
        sidecar: str,
        cameras: Sequence[Camera],
        pictures: Mapping[str, bytes] | None = None,
        ttl_s: int = 60,
    ) -> None:
        """Takes a client that returns bytes or text, the sidecar's address, and a picture by the name of a camera."""
        self._client: Any = client
        self._channel = grpc.insecure_channel(sidecar)
        self._stub = RateLimitServiceStub(self._channel)
        self.cameras = {camera.name: camera for camera in cameras}
        self._pictures = pictures or {}
        self._ttl_s = ttl_s
        self._recent: dict[str, list[tuple[float, int, int]]] = {camera.name: [] for camera in cameras}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self.errors: list[Exception] = []

    def __enter__(self) -> "Cameras":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._channel.close()

    def _run(self) -> None:
        try:
            while not self._stop.wait(STEP_S):
                self._step(time.time())
        except (redis.RedisError, grpc.RpcError) as error:
            self.errors.append(error)

    def _step(self, now: float) -> None:
        names: list[str] = []
        stamps: list[float] = []
        for camera in self.cameras.values():
            camera._due = max(camera._due, now - 1.0)
            while not camera.silent and camera._due <= now:
                names.append(camera.name)
                stamps.append(camera._due)
                camera._due += 1.0 / camera.fps
        if not names:
            return
        answer = self._stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names, ts=stamps), timeout=60)
        reasons: dict[str, str] = {}
        admitted: set[str] = set()
        for name, passed, reason in zip(names, answer.should_process, answer.reasons, strict=True):
            camera = self.cameras[name]
            camera.received += 1
            camera.counted += passed
            camera.skipped += not passed
            if passed:
                admitted.add(name)
            else:
                reasons[name] = pb.Reason.Name(reason).removeprefix("REASON_").lower()
        self._write(now, set(names), admitted, reasons, len(names), sum(answer.should_process))

    def _write(
        self, now: float, heard: set[str], admitted: set[str], reasons: dict[str, str], received: int, counted: int
    ) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for name in heard:
            camera, recent = self.cameras[name], self._recent[name]
            recent.append((now, camera.received, camera.counted))
            while len(recent) > 2 and now - recent[0][0] > 3.0:
                recent.pop(0)
            (_, received_then, counted_then), span = recent[0], max(now - recent[0][0], 0.5)
            fields: dict[str, object] = {
                "stream_name": name,
                "heard_at": round(now, 3),
                "received": camera.received,
                "admitted": camera.counted,
                "counted": camera.counted,
                "skipped": camera.skipped,
                "dead": 0,
                "source_fps": round((camera.received - received_then) / span, 3),
                "counted_fps": round((camera.counted - counted_then) / span, 3),
            }
            if name in reasons:
                fields["last_skip"] = reasons[name]
            if name in admitted:
                hands = [{"box": [10, 20, 110, 140], "is_right": i % 2 == 0, "score": 0.9} for i in range(camera.hands)]
                fields |= {"hand_count": camera.hands, "counted_at": round(now, 3), "age": 0.04, "width": 640}
                fields |= {"height": 480, "result": _result(name, now, hands)}
                if picture := self._pictures.get(name):
                    pipeline.set(f"{{hand_counter}}:preview:{name}", picture, ex=self._ttl_s)
            key = f"{{hand_counter}}:stream:{name}"
            pipeline.hset(key, mapping=fields)
            pipeline.expire(key, self._ttl_s)
        pipeline.hincrby("{hand_counter}:accounting", "received", received)
        pipeline.hincrby("{hand_counter}:accounting", "counted", counted)
        pipeline.hincrby("{hand_counter}:accounting", "skipped:too_soon", received - counted)
        pipeline.execute()


def _result(name: str, now: float, hands: list[dict[str, object]]) -> str:
    import json

    fields = {
        "version": 1,
        "entry_id": f"{int(now * 1000)}-0",
        "stream_name": name,
        "ts": now,
        "hand_count": len(hands),
    }
    return json.dumps({**fields, "hands": hands, "timings": {"queue_age": 0.04, "decode": 0.003, "detect": 0.05}})


@contextlib.contextmanager
def simulated_hashes(client: redis.Redis, number: int, *, every_s: float = 1.0) -> Iterator[None]:
    """Writes the hashes of so many streams anew while the block runs, each with another number of hands, as often as told."""
    names = [f"camera-{i:03}" for i in range(1, number + 1)]
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while True:
            now, turn = time.time(), turn + 1
            pipeline: Any = client.pipeline(transaction=False)
            for i, name in enumerate(names):
                fields = {"stream_name": name, "heard_at": round(now, 3), "counted_at": round(now, 3)}
                fields |= {"hand_count": (turn + i) % 5, "age": 0.05, "source_fps": 25, "counted_fps": 2}
                fields |= {"received": 25 * turn, "admitted": 2 * turn, "counted": 2 * turn, "skipped": 23 * turn}
                key = f"{{hand_counter}}:stream:{name}"
                pipeline.hset(key, mapping=fields)
                pipeline.expire(key, 60)
            pipeline.execute()
            if stop.wait(every_s):
                return

    thread = threading.Thread(target=write, name="hashes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
