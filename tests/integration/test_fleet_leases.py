"""Leases in fleet scope with real sidecars, Valkey and clients: the frames of each stream reach all replicas."""

import contextlib
import random
import urllib.request
from collections.abc import Iterator

import pytest
from support.clients.counting import CountingClient
from support.clients.fleet_player import most_over_law
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.pacing.schedule import Reason

KEY = "stream_fps_configs"
REPLICAS = 3
PATIENT = ("--scope", "fleet", "--claim-wait", "5")  # Redis must never count as too slow, however busy the machine is
LAW_BURST = 2.5
ROUNDING = 1e-3  # frames


def metric(sidecar: SidecarProcess, name: str) -> float:
    """Returns the value of a metric without labels."""
    text = urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=10).read().decode()
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


class Fleet:
    """Replicas, each with a client that has a session."""

    def __init__(self, redis: Valkey, sidecars: list[SidecarProcess]) -> None:
        self.redis = redis
        self.sidecars = sidecars
        self.clients = [CountingClient(sidecar.address) for sidecar in sidecars]
        self._random = random.Random(1)

    def close(self) -> None:
        """Closes the clients."""
        for client in self.clients:
            client.close()

    def set(self, **limits: str) -> None:
        """Sets a limit in Redis."""
        with self.redis.client() as connection:
            connection.hset(KEY, mapping=limits)

    def play(self, name: str, source_fps: float, seconds: float, start: float) -> list[float]:
        """Spreads a camera's frames randomly over the clients, in stream time; returns the ts of the admitted ones."""
        admitted = []
        for number in range(int(seconds * source_fps)):
            ts = start + number / source_fps
            if self._random.choice(self.clients).decide((name, ts)) == [Reason.ADMITTED]:
                admitted.append(ts)
        return admitted

    def decided(self, by: str) -> int:
        """Returns how many frames of all clients were decided in this way."""
        return sum(client.decided[by] for client in self.clients)

    def claim_calls(self) -> float:
        """Returns the number of calls to Redis so far."""
        return sum(metric(sidecar, "sidecar_claim_calls_total") for sidecar in self.sidecars)


@pytest.fixture(scope="module")
def redis() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as server:
        yield server


@contextlib.contextmanager
def replicas_of(redis: Valkey) -> Iterator[list[SidecarProcess]]:
    """Starts replicas, and waits until they have counted each other."""
    with contextlib.ExitStack() as stack:
        sidecars = [stack.enter_context(sidecar_process(*PATIENT, redis_url=redis.url)) for _ in range(REPLICAS)]
        for sidecar in sidecars:
            wait_until(
                lambda sidecar=sidecar: metric(sidecar, "sidecar_replicas") == REPLICAS, "the replicas are counted"
            )
        yield sidecars


@pytest.fixture(scope="module")
def sidecars(redis: Valkey) -> Iterator[list[SidecarProcess]]:
    """Returns the replicas of this module; each test uses its own streams."""
    with replicas_of(redis) as sidecars:
        yield sidecars


@pytest.fixture
def fleet(redis: Valkey, sidecars: list[SidecarProcess]) -> Iterator[Fleet]:
    """Yields this test's clients of the module's replicas."""
    with contextlib.closing(Fleet(redis, sidecars)) as fleet:
        yield fleet


@pytest.mark.parametrize(
    ("source_fps", "fps", "seconds", "most_asked"),
    [(60.0, 1.0, 50.0, 0.1), (30.0, 2.0, 50.0, 0.4), (30.0, 15.0, 20.0, 1.0)],
)
def test_the_rate_is_kept_with_few_questions(
    fleet: Fleet, source_fps: float, fps: float, seconds: float, most_asked: float
) -> None:
    """Each stream gets its fps within 2 %; per admission, each client asks once or twice and Redis is called once."""
    name = f"cam{source_fps}to{fps}"
    fleet.set(**{name: f"{fps}"})
    calls = fleet.claim_calls()
    admitted = fleet.play(name, source_fps, seconds, start=1000.0)
    assert len(admitted) == pytest.approx(seconds * fps, rel=0.02, abs=1.0)
    assert most_over_law(admitted, fps, LAW_BURST) < ROUNDING
    asked, by_lease = fleet.decided("sidecar"), fleet.decided("lease")
    assert asked + by_lease == seconds * source_fps
    assert asked <= 2 * REPLICAS * len(admitted)
    assert asked <= most_asked * seconds * source_fps
    assert fleet.claim_calls() - calls <= 1.3 * len(admitted) + REPLICAS


def test_a_raise_acts_on_leases_at_all_replicas(fleet: Fleet) -> None:
    """Each client denies under a lease until the change is pushed to its own sidecar."""
    names = [f"raised{number}" for number in range(REPLICAS)]
    fleet.set(**dict.fromkeys(names, "0.01"))
    for client in fleet.clients:
        for name in names:
            client.decide((name, 1000.0))
            client.until((name, 1001.0), Reason.TOO_SOON)
    for client in fleet.clients:
        wait_until(lambda client=client: client.leases() == len(names), "all streams have leases")
        client.decided.clear()
        assert set(client.decide(*((name, 1001.0) for name in names))) == {Reason.TOO_SOON}
        assert client.decided == {"lease": len(names)}
    fleet.set(**dict.fromkeys(names, "10"))
    for name, client in zip(names, fleet.clients, strict=True):
        client.until((name, 1001.0), Reason.ADMITTED)
        assert client.decided["sidecar"] == 1
    fleet.set(**dict.fromkeys(names, "0"))
    for client in fleet.clients:
        for name in names:
            client.until((name, 1002.0), Reason.PAUSED)


def test_an_admission_anywhere_ends_the_leases_of_all(fleet: Fleet) -> None:
    """A frame that another replica's admission made late is no longer too soon, and a restarted clock applies to all."""
    first, second, third = fleet.clients
    assert first.decide(("shared", 1000.0)) == [Reason.ADMITTED]
    for client in fleet.clients:
        client.until(("shared", 1000.5), Reason.TOO_SOON)
    assert second.decide(("shared", 1001.0)) == [Reason.ADMITTED]
    first.until(("shared", 1000.5), Reason.LATE)
    third.until(("shared", 1000.5), Reason.LATE)
    third.until(("shared", 5.0), Reason.ADMITTED)  # not before one second has passed
    for client in fleet.clients:
        client.until(("shared", 5.5), Reason.TOO_SOON)


def test_a_lost_replica_ends_its_own_leases_only() -> None:
    """The other replicas' clients keep their leases; its own client paces locally from the fleet's last state."""
    with (
        valkey() as redis,
        replicas_of(redis) as sidecars,
        contextlib.closing(Fleet(redis, sidecars)) as fleet,
    ):
        for client in fleet.clients:
            client.decide(("lost", 1000.0))
            client.until(("lost", 1000.5), Reason.TOO_SOON)
            assert client.leases() == 1
            client.decided.clear()
        sidecars[1].kill()
        lost = fleet.clients[1]
        wait_until(lambda: lost.leases() == 0, "the leases end")
        for client in (fleet.clients[0], fleet.clients[2]):
            assert client.decide(("lost", 1000.6)) == [Reason.TOO_SOON]
            assert client.decided == {"lease": 1}
        assert lost.decide(("lost", 1000.6), ("lost", 1001.0)) == [Reason.TOO_SOON, Reason.ADMITTED]
        assert lost.decided == {"local": 2}
