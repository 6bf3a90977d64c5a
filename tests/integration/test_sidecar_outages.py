"""Every kind of outage of Redis: decisions continue without an error or a delay, at the last known limits."""

import threading
import time

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.clients.asker import AWAY, DEFAULT, KEY, TRACKING, Asker
from support.processes.sidecars import sidecar_process
from support.redis.proxy import redis_proxy
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

REDIS_TIMEOUT_S = 8.0
"""1.5 s by default; here so long that a decision that waits for Redis differs from one on a busy machine."""
NO_SERVER = 1
"""A port at which no server listens."""
SERVING, NOT_SERVING = 1, 2


def test_a_wrong_password_is_an_outage(server: Valkey, client: "redis.Redis") -> None:
    """A Redis that rejects the login: decisions at the default, and one line that says so and what to do."""
    client.config_set("requirepass", "secret")
    with (
        sidecar_process(redis_url=f"redis://:wrong@127.0.0.1:{server.port}/0", fps=DEFAULT) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(sidecar, channel)
        answer = asker.ask("cam1")
        assert (answer.fps, answer.stale, asker.state()) == (DEFAULT, True, AWAY)
        assert sidecar.logs().count("Redis rejected the user or the password") == 1
        assert "check the user and the password" in sidecar.logs()


class Camera:
    """Asks about frames of known and of new streams continuously, and records errors and slow answers."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.errors: list[str] = []
        self.fps: set[float] = set()
        self.slow = 0
        self.asked = 0

    def __enter__(self) -> "Camera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.asked += 1
            for name in ("cam1", f"new{self.asked}"):
                started = time.perf_counter()
                try:
                    answer = self._asker.ask(name)
                except grpc.RpcError as error:
                    self.errors.append(str(error))
                    continue
                # A decision that waited for a timeout of Redis would take as long.
                self.slow += time.perf_counter() - started > REDIS_TIMEOUT_S / 2
                if name == "cam1":
                    self.fps.add(answer.fps)


def health(asker: Asker, channel_address: str) -> dict[str, int]:
    """Returns the health of the server and of its Redis."""
    with grpc.insecure_channel(channel_address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return {name: check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", "redis")}


@pytest.mark.parametrize("asker", [{"sidecar.connections.push.TIMEOUT_S": REDIS_TIMEOUT_S}], ids=[""], indirect=True)
@pytest.mark.parametrize("outage", ["kill", "pause"])
def test_an_outage_changes_nothing(asker: Asker, server: Valkey, client: "redis.Redis", outage: str) -> None:
    """With Redis killed or hung, the last known limits stay, no call fails or waits, stale and health show it; it recovers."""
    client.hset(KEY, mapping={"cam1": "2"})
    asker.wait_for_fps(2.0)
    with Camera(asker) as camera:
        server.kill() if outage == "kill" else server.pause()
        asker.wait_for_state(AWAY)
        answer = asker.ask("cam1")
        assert (answer.fps, answer.fps_source, answer.stale) == (2.0, pb.FPS_SOURCE_OVERRIDE, True)
        assert asker.ask("a new stream").fps == DEFAULT
        assert health(asker, asker.sidecar.address) == {"": SERVING, "redis": NOT_SERVING}
        asked = camera.asked
        wait_until(lambda: camera.asked > asked + 20, "frames while Redis is unreachable")
        assert camera.fps == {2.0}
        if outage == "kill":
            server.restart()
            asker.wait_for_state(TRACKING)
            # Redis came back empty, and that is in force now.
            asker.wait_for_fps(DEFAULT)
        else:
            server.resume()
            asker.wait_for_state(TRACKING)
            assert asker.fps("cam1") == 2.0
        assert not asker.ask("cam1").stale
        client.hset(KEY, mapping={"cam1": "4", f"new{camera.asked}": "9"})
        asker.wait_for_fps(4.0)
    assert camera.errors == []
    assert camera.slow == 0
    assert health(asker, asker.sidecar.address) == {"": SERVING, "redis": SERVING}
    assert asker.sidecar.logs().count("Redis is unreachable") == 1


def test_redis_may_come_later() -> None:
    """Started without Redis, the sidecar serves its default at once, and follows Redis when it appears."""
    with valkey() as server:
        server.kill()
        with (
            sidecar_process(redis_url=server.url, fps=DEFAULT) as sidecar,
            grpc.insecure_channel(sidecar.address) as channel,
        ):
            asker = Asker(sidecar, channel)
            answer = asker.ask("cam1")
            assert (answer.should_process, answer.fps, answer.stale) == (True, DEFAULT, True)
            server.restart()
            with server.client() as client:
                client.hset(KEY, "cam1", "2")
            asker.wait_for_fps(2.0)
            assert not asker.ask("cam1").stale


@pytest.mark.parametrize("field", ["cam1", "*"])
def test_a_pause_holds_for_a_client_of_known_limits(server: Valkey, client: "redis.Redis", field: str) -> None:
    """A sidecar that starts without Redis decides no frame of a stream that may be paused, if the client asks for that."""
    request = pb.ShouldProcessRequest(stream_name="cam1", known_limits_only=True)
    client.hset(KEY, field, "0")
    with (
        redis_proxy(NO_SERVER) as proxy,
        sidecar_process(redis_url=proxy.url, fps=DEFAULT) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        answers = [stub.ShouldProcess(request, timeout=120)]
        assert (answers[0].limit_unread, answers[0].stale) == (True, True)
        proxy.move_to(server.port)
        while answers[-1].limit_unread:
            answers.append(stub.ShouldProcess(request, timeout=120))
        assert not any(answer.should_process for answer in answers)
        assert (answers[-1].reason, answers[-1].fps) == (pb.REASON_PAUSED, 0.0)
        wait_until(lambda: not stub.ShouldProcess(request, timeout=120).stale)


def test_a_killed_connection_is_no_loss(asker: Asker, client: "redis.Redis") -> None:
    """After CLIENT KILL of the tracking connection, changes made meanwhile are seen, and pushes arrive again."""
    client.hset(KEY, "cam1", "2")
    asker.wait_for_fps(2.0)
    for fps in (3.0, 4.0):
        with client.pipeline(transaction=True) as pipeline:
            pipeline.client_kill_filter(_type="normal", skipme=True)
            pipeline.hset(KEY, "cam1", str(fps))
            pipeline.execute()
        asker.wait_for_fps(fps)
    client.hset(KEY, "cam1", "5")
    asker.wait_for_fps(5.0)
