"""The sidecar with a real Valkey: live changes, no command per decision, and every way Redis can fail."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
import redis
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
DEFAULT = 7.0
REDIS_TIMEOUT_S = 8.0
"""1.5 s as a rule; so long, that a decision that waits for Redis differs from one on a busy machine."""
MANY = 2000
"""Fields of a hash that Redis doesn't keep as a list any more."""
AWAY, TRACKING, POLLING = pb.REDIS_STATE_AWAY, pb.REDIS_STATE_TRACKING, pb.REDIS_STATE_POLLING


class Asker:
    """A client of a sidecar, as a test wants it."""

    def __init__(self, sidecar: SidecarProcess, channel: grpc.Channel) -> None:
        self.sidecar = sidecar
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)

    def ask(self, stream_name: str, ts: float | None = None) -> pb.ShouldProcessResponse:
        """Asks about one frame; any RPC error fails the test."""
        return self.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=stream_name, ts=ts), timeout=120)

    def fps(self, stream_name: str) -> float:
        """The limit in force for a stream by its next decision."""
        return self.ask(stream_name).fps

    def state(self) -> int:
        """How the sidecar stands with Redis."""
        return self.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120).redis_state

    def wait_for_fps(self, fps: float, stream_name: str = "cam1") -> None:
        """Waits until decisions are made at this limit."""
        wait_until(lambda: self.fps(stream_name) == fps, f"{fps} fps for {stream_name}")

    def wait_for_state(self, state: int) -> None:
        """Waits until the sidecar stands so with Redis."""
        wait_until(lambda: self.state() == state, f"Redis state {state}")


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A Valkey."""
    with valkey() as running:
        yield running


@pytest.fixture
def client(server: Valkey) -> Iterator["redis.Redis"]:
    """What redis-cli would be."""
    with server.client() as connected:
        yield connected


@pytest.fixture
def asker(request: pytest.FixtureRequest, server: Valkey) -> Iterator[Asker]:
    """A sidecar at a default of 7 fps that follows the Valkey, and who asks it; the parameter is its constants."""
    constants = getattr(request, "param", LIMITS_ARE_WAITED_FOR)
    with (
        sidecar_process(redis_url=server.url, fps=DEFAULT, constants=constants) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(sidecar, channel)
        asker.wait_for_state(TRACKING)
        yield asker


def swap_in(client: "redis.Redis") -> None:
    """Puts another hash in the place of the first, in one step."""
    client.hset("prepared", "cam1", "4")
    client.rename("prepared", KEY)


CHANGES: dict[str, tuple[Callable[["redis.Redis"], object], float]] = {
    "HSET": (lambda client: client.hset(KEY, "cam1", "5"), 5.0),
    "HSET 0": (lambda client: client.hset(KEY, "cam1", "0"), 0.0),
    "HSET of another field": (lambda client: client.hset(KEY, "cam2", "5"), 2.0),
    "HDEL": (lambda client: client.hdel(KEY, "cam1"), 3.0),
    "HDEL of the wildcard": (lambda client: client.hdel(KEY, "cam1", "*"), DEFAULT),
    "DEL": (lambda client: client.delete(KEY), DEFAULT),
    "RENAME away": (lambda client: client.rename(KEY, "elsewhere"), DEFAULT),
    "RENAME here": (swap_in, 4.0),
    "FLUSHALL": (lambda client: client.flushall(), DEFAULT),
    "PEXPIRE": (lambda client: client.pexpire(KEY, 1), DEFAULT),
    "SET, the wrong type": (lambda client: client.set(KEY, "not a hash"), DEFAULT),
    "HSET of nonsense": (lambda client: client.hset(KEY, "cam1", "abc"), 3.0),
}


@pytest.mark.parametrize("others", [0, MANY], ids=["small", "large"])
def test_every_change_acts_on_the_next_decision(asker: Asker, client: "redis.Redis", others: int) -> None:
    """Whatever redis-cli does to the hash is in force as soon as its push has arrived, without another command."""
    for name, (change, fps) in CHANGES.items():
        client.flushall()
        client.hset(KEY, mapping={"cam1": "2", "*": "3", **{f"other{number}": "1" for number in range(others)}})
        asker.wait_for_fps(2.0)
        change(client)
        wait_until(lambda expected=fps: asker.fps("cam1") == expected, f"the limit after {name}")  # type: ignore[misc]
        assert asker.state() == TRACKING, name


def test_the_source_of_the_limit_is_told(asker: Asker, client: "redis.Redis") -> None:
    """Exact field, then the wildcard, then the default; the answer says which, and that it is fresh."""
    assert asker.ask("cam1").fps_source == pb.FPS_SOURCE_DEFAULT
    client.hset(KEY, "*", "3")
    asker.wait_for_fps(3.0)
    assert asker.ask("cam1").fps_source == pb.FPS_SOURCE_WILDCARD
    client.hset(KEY, "cam1", "2")
    asker.wait_for_fps(2.0)
    answer = asker.ask("cam1")
    assert (answer.fps_source, answer.stale) == (pb.FPS_SOURCE_OVERRIDE, False)


def test_the_first_frame_of_a_stream_has_its_limit(asker: Asker, client: "redis.Redis") -> None:
    """A stream that was configured before it was ever seen is decided at its own limit from its first frame on."""
    client.hset(KEY, mapping={f"cam{number}": str(number + 1) for number in range(100)})
    assert [asker.fps(f"cam{number}") for number in range(50)] == [float(number + 1) for number in range(50)]
    batch = pb.ShouldProcessBatchRequest(stream_names=[f"cam{number}" for number in range(50, 100)])
    assert list(asker.stub.ShouldProcessBatch(batch).fps) == [float(number + 1) for number in range(50, 100)]


def test_a_bad_value_is_reported(asker: Asker, client: "redis.Redis") -> None:
    """A value that is no fps is ignored, logged once, counted, and shown by ListStreams until it is mended."""
    client.hset(KEY, mapping={"cam1": "fast", "cam2": "fast", "*": "3"})
    asker.wait_for_fps(3.0, "cam1")
    asker.wait_for_fps(3.0, "cam2")

    def told() -> list[str]:
        return [stream.invalid_value for stream in asker.stub.ListStreams(pb.ListStreamsRequest()).streams]

    assert told() == ["fast", "fast"]
    client.hset(KEY, "cam1", "6")
    asker.wait_for_fps(6.0)
    assert told() == ["", "fast"]
    assert asker.sidecar.logs().count("not a valid fps") == 1


def test_no_redis_command_per_decision(asker: Asker, client: "redis.Redis") -> None:
    """A thousand decisions about known streams issue no command: the server's own statistics say so."""

    def commands() -> dict[str, int]:
        stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}

    names = [f"cam{number}" for number in range(10)]
    batch = pb.ShouldProcessBatchRequest(stream_names=names * 10)
    client.hset(KEY, mapping=dict.fromkeys(names, "3"))
    for name in names:
        asker.wait_for_fps(3.0, name)
    started = time.monotonic()
    before = commands()
    for number in range(500):
        asker.ask(names[number % 10])
    for _ in range(20):
        asker.stub.ShouldProcessBatch(batch)
    after = commands()
    heartbeats = int(time.monotonic() - started) + 2
    issued = {name: count - before.get(name, 0) for name, count in after.items() if name != "info"}
    assert issued.pop("ping", 0) <= heartbeats
    # The slow resync, every 30 s, may fall into the test: two reads.
    assert sum(issued.values()) <= 2 * (1 + heartbeats // 30), issued


def test_a_flood_of_changes_is_coalesced(asker: Asker, client: "redis.Redis") -> None:
    """Many changes at once lead to few readings, and the last change wins."""
    asker.fps("cam1")
    with client.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.hset(KEY, "cam1", str(number + 10))
        pipeline.execute()
    asker.wait_for_fps(5009.0)
    stats = client.info("commandstats")
    assert stats["cmdstat_hscan"]["calls"] + stats["cmdstat_hmget"]["calls"] < 1000


def test_a_hash_is_read_in_the_way_that_suits_it(asker: Asker, client: "redis.Redis") -> None:
    """A small one whole, whoever is asked about; of a large one only the streams that matter; also as it grows and shrinks."""

    def reads(change: Callable[[], object], fps: float) -> tuple[bool, bool]:
        """Whether the hash and whether streams of it were read for a change of cam1."""
        client.config_resetstat()
        change()
        asker.wait_for_fps(fps)
        stats = client.info("commandstats")
        return "cmdstat_hscan" in stats, "cmdstat_hmget" in stats

    asker.fps("cam1")
    assert reads(lambda: client.hset(KEY, "cam1", "2"), 2.0) == (True, False)
    client.hset(KEY, mapping={f"other{number}": "1" for number in range(MANY)})
    assert reads(lambda: client.hset(KEY, "cam1", "3"), 3.0) == (True, True)
    client.delete(KEY)
    asker.wait_for_fps(DEFAULT)
    assert reads(lambda: client.hset(KEY, "cam1", "4"), 4.0) == (True, False)


def test_the_wrong_type_and_back(asker: Asker, client: "redis.Redis") -> None:
    """A key of another type means no overrides, said once; when it is a hash again its values hold."""
    client.hset(KEY, "cam1", "2")
    asker.wait_for_fps(2.0)
    client.set(KEY, "x")
    asker.wait_for_fps(DEFAULT)
    assert asker.fps("new") == DEFAULT
    client.delete(KEY)
    client.hset(KEY, "cam1", "3")
    asker.wait_for_fps(3.0)
    assert asker.sidecar.logs().count("isn't a hash") == 1


# Where pushes aren't to be had.

LEAST_PRIVILEGE = f"on >secret %R~{KEY} resetchannels -@all +hmget +ping +hello"


@pytest.mark.parametrize(
    ("more", "state"), [(" +hscan +client|tracking", TRACKING), (" +client|tracking", TRACKING), (" +hscan", POLLING)]
)
def test_a_least_privilege_user_is_enough(server: Valkey, client: "redis.Redis", more: str, state: int) -> None:
    """With the rights to read the hash it works; without the right to track it polls, and says so."""
    client.execute_command("ACL", "SETUSER", "sidecar", *(LEAST_PRIVILEGE + more).split())
    url = f"redis://sidecar:secret@127.0.0.1:{server.port}/0"
    with (
        sidecar_process(redis_url=url, fps=DEFAULT) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(sidecar, channel)
        asker.wait_for_state(state)
        assert asker.fps("cam1") == DEFAULT
        client.hset(KEY, "cam1", "2")
        asker.wait_for_fps(2.0)
        info = asker.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert info.settings["redis-url"] == f"redis://sidecar:***@127.0.0.1:{server.port}/0"
        assert "secret" not in sidecar.logs()


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
        assert sidecar.logs().count("Redis rejected the login") == 1
        assert "check the user and the password" in sidecar.logs()


# Outages. Decisions go on throughout: no error, no delay, the last known limits.


class Camera:
    """Asks about frames of known and of new streams all the time, and notes what goes wrong and what is slow."""

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
        while not self._stop.wait(0.005):
            self.asked += 1
            for name in ("cam1", f"new{self.asked}"):
                started = time.perf_counter()
                try:
                    answer = self._asker.ask(name)
                except grpc.RpcError as error:
                    self.errors.append(str(error))
                    continue
                # A decision that waited for one of Redis' time-outs would take as long.
                self.slow += time.perf_counter() - started > REDIS_TIMEOUT_S / 2
                if name == "cam1":
                    self.fps.add(answer.fps)


def health(asker: Asker, channel_address: str) -> dict[str, int]:
    """The health of the server and of its Redis."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(channel_address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return {name: check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", "redis")}


SERVING, NOT_SERVING = 1, 2


@pytest.mark.parametrize("asker", [{"sidecar.connections.push.TIMEOUT_S": REDIS_TIMEOUT_S}], ids=[""], indirect=True)
@pytest.mark.parametrize("outage", ["kill", "pause"])
def test_an_outage_changes_nothing(asker: Asker, server: Valkey, client: "redis.Redis", outage: str) -> None:
    """Redis killed or hung: the last known limits stay, no call fails or waits, stale and health tell; it recovers."""
    client.hset(KEY, mapping={"cam1": "2"})
    asker.wait_for_fps(2.0)
    with Camera(asker) as camera:
        server.kill() if outage == "kill" else server.pause()
        asker.wait_for_state(AWAY)
        answer = asker.ask("cam1")
        assert (answer.fps, answer.fps_source, answer.stale) == (2.0, pb.FPS_SOURCE_OVERRIDE, True)
        assert asker.ask("a stream never seen before").fps == DEFAULT
        assert health(asker, asker.sidecar.address) == {"": SERVING, "redis": NOT_SERVING}
        asked = camera.asked
        wait_until(lambda: camera.asked > asked + 20, "frames while Redis is unreachable")
        assert camera.fps == {2.0}
        if outage == "kill":
            server.restart()
            asker.wait_for_state(TRACKING)
            # It came back empty, and that is the truth now.
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
    """Started without Redis the sidecar serves its default at once, and follows Redis when it comes."""
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


def test_a_killed_connection_is_no_loss(asker: Asker, client: "redis.Redis") -> None:
    """CLIENT KILL of the tracking connection: changes made meanwhile are seen, and pushes come again."""
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
