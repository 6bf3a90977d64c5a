"""Fleet scope with real sidecars and a real Valkey: the replicas together keep each stream's rate."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from support.clients.fleet_player import Player, most_over_law, player
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.proxy import redis_proxy
from support.redis.topologies import plain_client, replicated
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

FLEET = ("--scope", "fleet")
PATIENT = ("--claim-wait", "5")  # a running Redis must never count as too slow, however busy the machine is
REDIS_IS_WAITED_FOR = {"sidecar.server.FIRST_ATTEMPT_S": 60.0}
"""Constants of a sidecar that serves only after it has reached Redis, however busy the machine is."""
WAIT_S = 0.8
"""A delay of Redis so long that a decision that waits for it differs from one on a busy machine."""
LAW_BURST = 2.5
ROUNDING = 1e-3  # frames


@pytest.fixture(scope="module")
def redis() -> Iterator[Valkey]:
    with valkey() as server:
        yield server


@contextlib.contextmanager
def fleet(
    url: str, count: int, *arguments: str, fps: float = 1.0, constants: dict[str, float] | None = None
) -> Iterator[list[SidecarProcess]]:
    """Starts sidecars in fleet scope, and waits until they have counted each other."""
    with contextlib.ExitStack() as stack:
        sidecars = [
            stack.enter_context(sidecar_process(*FLEET, *arguments, redis_url=url, fps=fps, constants=constants))
            for _ in range(count)
        ]
        for sidecar in sidecars:
            wait_until(lambda sidecar=sidecar: metric(sidecar, "sidecar_replicas") == count, f"{count} replicas")
        yield sidecars


def metric(sidecar: SidecarProcess, name: str) -> float:
    """Returns the value of a metric without labels."""
    import urllib.request

    with urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=120) as page:
        for line in page.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def set_limits(server: Valkey, limits: dict[str, float]) -> None:
    with plain_client(server.port) as client:
        client.hset("stream_fps_configs", mapping={name: str(fps) for name, fps in limits.items()})


@pytest.fixture(scope="module")
def four(redis) -> Iterator[list[SidecarProcess]]:
    with fleet(redis.url, 4, *PATIENT, constants=LIMITS_ARE_WAITED_FOR) as sidecars:
        yield sidecars


@pytest.fixture
def playing(four) -> Iterator[Player]:
    with player(four) as playing:
        # The streams of one test are unknown to the others.
        playing.now = time.monotonic() * 1000
        yield playing


def test_rate_is_kept_from_one_to_four_to_two_replicas():
    """While three replicas are started, one is killed and one is stopped, each stream gets its fps within 2 %.

    Its frames go randomly to the running replicas, 1, then 4, then 2, at once, whether or not the others have
    noticed the change, and reach some of them later than others.
    """
    targets = {"slow": 0.5, "usual": 5.0, "half": 12.5}
    sources = {"slow": 5.0, "usual": 10.0, "half": 25.0}
    admitted = {name: [] for name in targets}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(valkey())
        set_limits(server, targets)

        def start() -> SidecarProcess:
            arguments = {"redis_url": server.url, "constants": LIMITS_ARE_WAITED_FOR | REDIS_IS_WAITED_FOR}
            return stack.enter_context(sidecar_process(*FLEET, *PATIENT, **arguments))

        def play(sidecars: list[SidecarProcess], now: float) -> None:
            with player(sidecars) as playing:
                playing.now = now
                for name, times in playing.play(sources, 8.0, skew_s=0.1).items():
                    admitted[name] += times

        first = start()
        play([first], 1000.0)
        second, third, fourth = (start() for _ in range(3))
        play([first, second, third, fourth], 1008.0)
        # The first one ends too: no replica is special.
        first.kill()
        third.terminate()
        play([second, fourth], 1016.0)
        assert third.wait() == 0
    for name, fps in targets.items():
        assert len(admitted[name]) == pytest.approx(24.0 * fps, rel=0.02, abs=1.5)
        assert most_over_law(admitted[name], fps, LAW_BURST) < ROUNDING
        assert min(admitted[name]) < 1000.0 + 1 / sources[name]


def test_replicas_apart_lose_nothing(redis, playing):
    """Frames of fast cameras that reach the replicas out of order get the same number of admissions as in order."""
    limits = {"60-30": 30.0, "60-20": 20.0, "30-15": 15.0, "30-20": 20.0}
    set_limits(redis, limits)
    for name, fps in limits.items():
        admitted = playing.play({name: float(name.partition("-")[0])}, 5.0, 4, 0.1)[name]
        assert len(admitted) == pytest.approx(5.0 * fps, rel=0.02, abs=1.5)
        assert most_over_law(admitted, fps, LAW_BURST) < ROUNDING
        assert len(set(admitted)) == len(admitted)


def test_one_call_of_redis_per_admitted_frame(playing, four):
    """Frames that are certain to be denied cost no call at any replica."""
    before = sum(metric(sidecar, "sidecar_claim_calls_total") for sidecar in four)
    admitted = playing.play({"lonely": 10.0}, 40.0)["lonely"]
    calls = sum(metric(sidecar, "sidecar_claim_calls_total") for sidecar in four) - before
    assert len(admitted) == pytest.approx(40, abs=2)
    assert calls <= 1.3 * len(admitted) + len(four)


def test_batches_share_calls(playing, four):
    """The frames of many streams in one batch cost one call."""
    before = sum(metric(sidecar, "sidecar_claim_calls_total") for sidecar in four)
    names = [f"many{number}" for number in range(400)]
    admitted = 0
    for second in range(10):
        for step in range(3):
            request = pb.ShouldProcessBatchRequest(
                stream_names=names, ts=[playing.now + second + step / 3 + 0.1] * len(names)
            )
            answer = playing.stubs[(second + step) % 4].ShouldProcessBatch(request, timeout=120)
            admitted += sum(answer.should_process)
    calls = sum(metric(sidecar, "sidecar_claim_calls_total") for sidecar in four) - before
    assert admitted == 10 * len(names)
    assert calls <= 0.1 * admitted


def test_restarted_clock_is_served_by_all_at_once(redis, playing):
    """When a camera's clock restarts, its rate continues at once, whichever replica its frames reach."""
    set_limits(redis, {"looped": 20.0})
    playing.play({"looped": 30.0}, 5.0)
    with plain_client(redis.port) as client:
        ended = clock(client)
        wait_until(lambda: clock(client) > ended + 1 / 20.0, "the period of Redis's time that paces restarts")
    playing.now -= 500.0
    admitted = playing.play({"looped": 30.0}, 5.0)["looped"]
    assert len(admitted) == pytest.approx(100, rel=0.02)
    assert min(admitted) < playing.now - 5.0 + 0.2


def clock(client) -> float:
    """Returns the time of Redis's clock, seconds."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def test_change_of_fps_acts_on_all_replicas(redis, playing):
    """A limit that is raised and then lifted takes effect at every replica with the next frames."""
    for fps, expected in ((1.0, 10), (10.0, 100), (0.0, 0), (float("inf"), 120)):
        set_limits(redis, {"changed": fps})
        for stub in playing.stubs:
            request = pb.ListStreamsRequest(name_prefix="changed")
            wait_until(
                lambda stub=stub, request=request, fps=fps: all(
                    stream.fps == fps for stream in stub.ListStreams(request, timeout=120).streams
                ),
                f"fps {fps} is in force",
            )
        admitted = playing.play({"changed": 12.0}, 10.0)["changed"]
        assert len(admitted) == pytest.approx(expected, abs=3)


class TestRedisAway:
    """Each replica paces at its share, no decision waits, and nothing is caught up on afterwards."""

    SOURCE = 10.0
    FPS = 2.0

    def play(self, playing: Player, seconds: float) -> list[float]:
        """Plays one stream in stream time."""
        return playing.play({"cam": self.SOURCE}, seconds)["cam"]

    def median_s(self, playing: Player) -> float:
        """Returns the current median time of some decisions, seconds."""
        times = []
        for number in range(40):
            began = time.monotonic()
            playing.stubs[number % len(playing.stubs)].ShouldProcess(
                pb.ShouldProcessRequest(stream_name=f"timed{number}", ts=playing.now), timeout=120
            )
            times.append(time.monotonic() - began)
        return sorted(times)[len(times) // 2]

    def stale(self, playing: Player) -> list[bool]:
        """Returns each replica's stale flag for a frame that has to be claimed."""
        playing.now += 10.0
        request = pb.ShouldProcessRequest(stream_name="cam", ts=playing.now)
        return [stub.ShouldProcess(request, timeout=120).stale for stub in playing.stubs]

    def check(
        self, playing: Player, before: list[float], during: list[float], after: list[float], seconds: float
    ) -> None:
        """Asserts the rate; the fault may cost each replica its own credit, the return one frame per other replica."""
        replicas = len(playing.stubs)
        assert len(during) == pytest.approx(seconds * self.FPS, abs=LAW_BURST * replicas)
        assert most_over_law(before + during, self.FPS, LAW_BURST * replicas) < ROUNDING
        around_return = [ts for ts in during if ts > after[0] - 10.0] + after
        assert most_over_law(around_return, self.FPS, LAW_BURST + replicas - 1) < ROUNDING

    def test_killed(self):
        """With Redis killed, the fleet keeps the rate, marks answers as stale, and returns without a burst."""
        with valkey() as server, fleet(server.url, 3, *PATIENT, fps=self.FPS) as sidecars, player(sidecars) as playing:
            before = self.play(playing, 10.0)
            server.kill()
            wait_until(lambda: all(self.stale(playing)), "all replicas know that Redis is unreachable")
            playing.now += 10.0
            during = self.play(playing, 40.0)
            server.restart()
            wait_until(lambda: self.in_touch(sidecars), "all replicas reach Redis again")
            after = self.play(playing, 20.0)
            self.check(playing, before, during, after, 40.0)
            assert len(after) == pytest.approx(20.0 * self.FPS, abs=4)
            wait_until(lambda: not any(self.stale(playing)), "the answers are no longer stale")

    def in_touch(self, sidecars: list[SidecarProcess]) -> bool:
        return all(metric(sidecar, "sidecar_claims_in_time") == 1 for sidecar in sidecars)

    def test_slow(self):
        """No decision waits for a Redis that takes longer than --claim-wait; as soon as it is fast again, it decides."""
        with contextlib.ExitStack() as stack:
            proxy = stack.enter_context(redis_proxy(stack.enter_context(valkey()).port))
            sidecars = stack.enter_context(fleet(proxy.url, 2, "--claim-wait", str(WAIT_S), fps=self.FPS))
            playing = stack.enter_context(player(sidecars))
            before = self.play(playing, 10.0)
            proxy.delay_s = 1.2  # a connection without an answer for 1.5 s would be closed
            wait_until(lambda: all(self.stale(playing)), "all replicas know that Redis is slow")
            assert self.median_s(playing) < WAIT_S / 2
            playing.now += 10.0
            during = self.play(playing, 40.0)
            proxy.delay_s = 0.0
            wait_until(lambda: self.in_touch(sidecars), "all replicas reach Redis again")
            after = self.play(playing, 20.0)
            self.check(playing, before, during, after, 40.0)

    def test_hangs(self):
        """A Redis that accepts connections but never answers costs one short wait, then none."""
        with (
            valkey() as server,
            fleet(server.url, 2, "--claim-wait", str(WAIT_S), fps=self.FPS) as sidecars,
            player(sidecars) as playing,
        ):
            before = self.play(playing, 10.0)
            server.pause()
            try:
                wait_until(lambda: all(self.stale(playing)), "all replicas know that Redis hangs")
                assert self.median_s(playing) < WAIT_S / 2
                playing.now += 10.0
                during = self.play(playing, 40.0)
            finally:
                server.resume()
            wait_until(lambda: self.in_touch(sidecars), "all replicas reach Redis again")
            after = self.play(playing, 20.0)
            self.check(playing, before, during, after, 40.0)

    def test_never_seen(self):
        """Without Redis from the start, --replicas sets how many share the limit."""
        with contextlib.ExitStack() as stack:
            sidecars = [stack.enter_context(sidecar_process(*FLEET, "--replicas", "2", fps=self.FPS)) for _ in range(2)]
            playing = stack.enter_context(player(sidecars))
            admitted = self.play(playing, 40.0)
            assert len(admitted) == pytest.approx(40.0 * self.FPS, rel=0.05, abs=2)
            assert self.stale(playing) == [True, True]

    def test_failover(self):
        """After the loss of the master, all replicas find the promoted one and continue from the known states."""
        # Until every replica has found it, the rate isn't exact; here stream time passes too fast
        # to say by how much, so nothing is played meanwhile.
        with (
            replicated() as servers,
            fleet(servers.url, 2, *PATIENT, fps=self.FPS) as sidecars,
            player(sidecars) as playing,
        ):
            admitted = self.play(playing, 10.0)
            servers.master.kill()
            wait_until(lambda: not self.in_touch(sidecars), "the loss is noticed")
            wait_until(lambda: self.in_touch(sidecars), "all replicas have found the new master")
            admitted += self.play(playing, 20.0)
            assert len(admitted) == pytest.approx(30.0 * self.FPS, abs=1)
            assert most_over_law(admitted, self.FPS, LAW_BURST) < ROUNDING
            wait_until(lambda: not any(self.stale(playing)), "the answers are no longer stale")

    def test_full(self):
        """A Redis that rejects writes counts as unreachable: each replica decides without Redis."""
        with valkey() as server, fleet(server.url, 2, *PATIENT, fps=self.FPS) as sidecars, player(sidecars) as playing:
            self.play(playing, 5.0)
            with plain_client(server.port) as client:
                client.config_set("maxmemory", 1)
                playing.now += 10.0
                during = self.play(playing, 40.0)
                assert len(during) == pytest.approx(40.0 * self.FPS, abs=LAW_BURST * 2)
                client.config_set("maxmemory", 0)
            assert len(self.play(playing, 20.0)) == pytest.approx(20.0 * self.FPS, abs=4)

    def test_flushed(self):
        """A flush loses the states in Redis but admits nothing: the replicas' claims restore them."""
        with valkey() as server, fleet(server.url, 2, *PATIENT, fps=self.FPS) as sidecars, player(sidecars) as playing:
            admitted = self.play(playing, 10.0)
            with plain_client(server.port) as client:
                for _ in range(10):
                    client.flushall()
                    admitted += self.play(playing, 3.0)
            assert most_over_law(admitted, self.FPS, LAW_BURST) < ROUNDING
            assert len(admitted) == pytest.approx(40.0 * self.FPS, abs=2)
