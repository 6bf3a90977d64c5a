"""The sidecar with a real Valkey: live changes, no command per decision, and every kind of failure of Redis."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
import redis
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.proxy import redis_proxy
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
DEFAULT = 7.0
REDIS_TIMEOUT_S = 8.0
"""1.5 s by default; here so long that a decision that waits for Redis differs from one on a busy machine."""
MANY = 2000
"""Fields of a hash that is too large for Redis to keep as a list."""
NO_SERVER = 1
"""A port at which no server listens."""
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


@pytest.fixture
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as running:
        yield running


@pytest.fixture
def client(server: Valkey) -> Iterator["redis.Redis"]:
    """Returns a client of the Valkey, in the place of redis-cli."""
    with server.client() as connected:
        yield connected


@pytest.fixture
def asker(request: pytest.FixtureRequest, server: Valkey) -> Iterator[Asker]:
    """Returns a client of a sidecar with a default of 7 fps that follows the Valkey; the parameter is its constants."""
    constants = getattr(request, "param", LIMITS_ARE_WAITED_FOR)
    with (
        sidecar_process(redis_url=server.url, fps=DEFAULT, constants=constants) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(sidecar, channel)
        asker.wait_for_state(TRACKING)
        yield asker


def swap_in(client: "redis.Redis") -> None:
    """Replaces the hash in one step."""
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
    "SET, the wrong type": (lambda client: client.set(KEY, "not a hash"), 2.0),
    "HSET of nonsense": (lambda client: client.hset(KEY, "cam1", "abc"), 2.0),
}


@pytest.mark.parametrize("others", [0, MANY], ids=["small", "large"])
def test_every_change_acts_on_the_next_decision(asker: Asker, client: "redis.Redis", others: int) -> None:
    """Every change of the hash takes effect as soon as its push has arrived, without another command."""
    for name, (change, fps) in CHANGES.items():
        client.flushall()
        client.hset(KEY, mapping={"cam1": "2", "*": "3", **{f"other{number}": "1" for number in range(others)}})
        asker.wait_for_fps(2.0)
        change(client)
        wait_until(lambda expected=fps: asker.fps("cam1") == expected, f"the limit after {name}")  # type: ignore[misc]
        assert asker.state() == TRACKING, name


def test_the_answer_has_the_source_of_the_limit(asker: Asker, client: "redis.Redis") -> None:
    """The order is the stream's field, the wildcard, the default; the answer says which, and that it isn't stale."""
    assert asker.ask("cam1").fps_source == pb.FPS_SOURCE_DEFAULT
    client.hset(KEY, "*", "3")
    asker.wait_for_fps(3.0)
    assert asker.ask("cam1").fps_source == pb.FPS_SOURCE_WILDCARD
    client.hset(KEY, "cam1", "2")
    asker.wait_for_fps(2.0)
    answer = asker.ask("cam1")
    assert (answer.fps_source, answer.stale) == (pb.FPS_SOURCE_OVERRIDE, False)


def test_the_first_frame_of_a_stream_has_its_limit(asker: Asker, client: "redis.Redis") -> None:
    """A stream whose limit was set before its first frame is decided at that limit from the first frame on."""
    client.hset(KEY, mapping={f"cam{number}": str(number + 1) for number in range(100)})
    assert [asker.fps(f"cam{number}") for number in range(50)] == [float(number + 1) for number in range(50)]
    batch = pb.ShouldProcessBatchRequest(stream_names=[f"cam{number}" for number in range(50, 100)])
    assert list(asker.stub.ShouldProcessBatch(batch).fps) == [float(number + 1) for number in range(50, 100)]


def test_a_bad_value_is_reported(asker: Asker, client: "redis.Redis") -> None:
    """An invalid value is ignored, logged once, counted, and shown by ListStreams until it is corrected."""
    client.hset(KEY, mapping={"cam1": "fast", "cam2": "fast", "*": "3"})
    asker.wait_for_fps(3.0, "cam1")
    asker.wait_for_fps(3.0, "cam2")

    def invalid_values() -> list[str]:
        return [stream.invalid_value for stream in asker.stub.ListStreams(pb.ListStreamsRequest()).streams]

    assert invalid_values() == ["fast", "fast"]
    client.hset(KEY, "cam1", "6")
    asker.wait_for_fps(6.0)
    assert invalid_values() == ["", "fast"]
    assert asker.sidecar.logs().count("isn't a valid fps") == 1


def test_a_changed_limit_is_a_log_line(asker: Asker, client: "redis.Redis") -> None:
    """It has the stream, both fps and the source. Changes of streams without frames aren't logged."""
    client.hset(KEY, mapping={"cam1": "2", "cam2": "2"})
    asker.wait_for_fps(2.0)
    client.hset(KEY, mapping={"cam1": "0.25", "cam2": "5"})
    asker.wait_for_fps(0.25)
    client.hset(KEY, "*", "3")
    client.hdel(KEY, "cam1")
    asker.wait_for_fps(3.0)
    lines = [line for line in asker.sidecar.logs().splitlines() if " limit changed " in line]
    fields = [line.partition(" limit changed ")[2] for line in lines]
    assert "stream_name=cam1 old_fps=2 new_fps=0.25 source=override" in fields
    assert "stream_name=* old_fps=7 new_fps=3 source=wildcard" in fields
    assert "stream_name=cam1 old_fps=0.25 new_fps=3 source=wildcard" in fields
    assert not any("cam2" in line for line in lines)


def test_no_redis_command_per_decision(asker: Asker, client: "redis.Redis") -> None:
    """A thousand decisions about known streams cause no command, by the server's own statistics."""

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
    # The slow resync, every 30 s, may happen during the test: two reads.
    assert sum(issued.values()) <= 2 * (1 + heartbeats // 30), issued


def test_a_flood_of_changes_is_coalesced(asker: Asker, client: "redis.Redis") -> None:
    """Many changes at once cause few readings, and the last change wins."""
    asker.fps("cam1")
    with client.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.hset(KEY, "cam1", str(number + 10))
        pipeline.execute()
    asker.wait_for_fps(5009.0)
    stats = client.info("commandstats")
    assert stats["cmdstat_hscan"]["calls"] + stats["cmdstat_hmget"]["calls"] < 1000


def test_a_hash_is_read_in_the_way_that_suits_it(asker: Asker, client: "redis.Redis") -> None:
    """A small hash is read whole, of a large one only the watched streams, also while it grows and shrinks."""

    def reads(change: Callable[[], object], fps: float) -> tuple[bool, bool]:
        """Returns whether the hash, and whether single streams, were read for a change of cam1."""
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
    """A key of the wrong type keeps the last limits and is logged once; when it is a hash again, its values apply."""
    client.hset(KEY, "cam1", "2")
    asker.wait_for_fps(2.0)
    client.set(KEY, "x")
    wait_until(lambda: asker.ask("cam1").stale, "the wrong type is noticed")
    assert (asker.fps("cam1"), asker.fps("new")) == (2.0, DEFAULT)
    client.delete(KEY)
    client.hset(KEY, "cam1", "3")
    asker.wait_for_fps(3.0)
    assert asker.sidecar.logs().count("isn't a hash") == 1


# Without pushes.

LEAST_PRIVILEGE = f"on >secret %R~{KEY} resetchannels -@all +hmget +ping +hello"


@pytest.mark.parametrize(
    ("more", "state"), [(" +hscan +client|tracking", TRACKING), (" +client|tracking", TRACKING), (" +hscan", POLLING)]
)
def test_a_least_privilege_user_is_enough(server: Valkey, client: "redis.Redis", more: str, state: int) -> None:
    """The permission to read the hash is enough; without the permission to track, the sidecar polls and logs it."""
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
        assert sidecar.logs().count("Redis rejected the user or the password") == 1
        assert "check the user and the password" in sidecar.logs()


# Outages. Decisions continue throughout: no error, no delay, the last known limits.


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
        while not self._stop.wait(0.005):
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
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(channel_address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return {name: check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", "redis")}


SERVING, NOT_SERVING = 1, 2


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
