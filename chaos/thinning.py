"""Kills and freezes the sidecar of thinned cameras: is the count what it is without thinning, also while limits change?

    python -m chaos.thinning                                # a minute, 200 cameras
    python -m chaos.thinning --minutes 10 --cameras 1000    # make chaos-thinning ARGS=...

Each camera is there twice, with the same frames and the same limits: of one all frames are published, of its twin those that
its publisher's thinner lets through. A client, as a worker has it, decides both by one sidecar, which is killed and frozen at
random while limits change, also during an outage. All are real but the frames, which are only times.

Of each pair as many frames must be admitted, but for one at each restart, freeze and change, and for those that came while the
publisher didn't know the limit by which the client decided yet.
"""
# ruff: noqa: T201 (its output is what it prints)

import argparse
import contextlib
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import redis
from support.processes import programs
from support.processes.ports import free_port
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.client import LimitsWatch, RateLimiter
from handcounter.pacing.schedule import Reason
from worker.publish.thinner import Thinner

KEY = "stream_fps_configs"
SOURCE_FPS = 10.0
TICK_S = 1.0 / SOURCE_FPS
LIMITS = ("0", "0.2", "1", "2.5", "5", "inf", None)
"""None: the field is deleted, so that the default is in force."""
DEFAULT_FPS = 1.0
LONGEST_FREEZE_S = 2.0
T0 = 1000.0


class Pair:
    """A camera and its thinned twin."""

    def __init__(self, number: int, watch: LimitsWatch) -> None:
        self.whole, self.thinned = f"whole-{number}", f"thinned-{number}"
        self.thinner = Thinner(watch, self.thinned, time.monotonic)
        self.admitted = {self.whole: 0, self.thinned: 0}
        self.published = 0
        """Frames of the twin that weren't left out."""
        self.allowed = 0
        """How many frames the two may differ by."""

    @property
    def difference(self) -> int:
        """By how many admitted frames they differ."""
        return abs(self.admitted[self.whole] - self.admitted[self.thinned])


class Storm:
    """What happens to the sidecar and the limits."""

    def __init__(self, server: Valkey, pairs: Sequence[Pair], chance: random.Random) -> None:
        self._server = server
        self._client = redis.Redis(port=server.port)
        self._pairs = pairs
        self._chance = chance
        self._port = free_port()
        self._running = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._allowances: Counter[str] = Counter()
        self.restarts = self.freezes = self.changes = 0
        self.sidecar = self._start()

    @property
    def address(self) -> str:
        """Where the sidecar is."""
        return self.sidecar.address

    def run(self, stop: threading.Event) -> None:
        """Does one thing after another."""
        while not stop.wait(self._chance.uniform(0.2, 1.5)):
            self._chance.choice((self._change, self._change, self._freeze, self._restart))(stop)

    def take_allowances(self) -> Counter[str]:
        """Returns how many frames each pair may differ by because of what happened since the last call, by its whole camera."""
        with self._lock:
            taken, self._allowances = self._allowances, Counter()
        return taken

    def close(self) -> None:
        """Ends all."""
        self._running.close()
        self._client.close()

    def _allow(self, pairs: Sequence[Pair]) -> None:
        with self._lock:
            self._allowances.update(pair.whole for pair in pairs)

    def _change(self, _stop: threading.Event) -> None:
        """Changes the limits of some cameras, or the default of all."""
        self.changes += 1
        fps = self._chance.choice(LIMITS)
        if self._chance.random() < 0.2:
            fields, pairs = ["*"], list(self._pairs)
        else:
            pairs = self._chance.sample(self._pairs, self._chance.randint(1, len(self._pairs)))
            fields = [name for pair in pairs for name in (pair.whole, pair.thinned)]
        self._allow(pairs)
        if fps is None:
            self._client.hdel(KEY, *fields)
        else:
            self._client.hset(KEY, mapping=dict.fromkeys(fields, fps))

    def _freeze(self, stop: threading.Event) -> None:
        self.freezes += 1
        self._allow(self._pairs)
        self.sidecar.process.send_signal(signal.SIGSTOP)
        self._meanwhile(stop)
        self.sidecar.process.send_signal(signal.SIGCONT)

    def _restart(self, stop: threading.Event) -> None:
        self.restarts += 1
        self._allow(self._pairs)
        self.sidecar.kill()
        self._meanwhile(stop)
        self._running.close()
        self.sidecar = self._start()

    def _meanwhile(self, stop: threading.Event) -> None:
        stop.wait(self._chance.uniform(0.05, LONGEST_FREEZE_S))
        if self._chance.random() < 0.5:
            self._change(stop)

    def _start(self) -> SidecarProcess:
        return self._running.enter_context(
            sidecar_process("--max-streams", "100000", redis_url=self._server.url, fps=DEFAULT_FPS, port=self._port)
        )


def play(pairs: Sequence[Pair], limiter: RateLimiter, watch: LimitsWatch, storm: Storm, seconds: float) -> None:
    """Plays the cameras in real time."""
    begun = time.monotonic()
    for tick in range(round(seconds * SOURCE_FPS)):
        time.sleep(max(0.0, begun + tick * TICK_S - time.monotonic()))
        ts = T0 + tick * TICK_S
        batch: list[tuple[str, float]] = []
        for pair in pairs:
            batch.append((pair.whole, ts))
            if pair.thinner.is_due(ts):
                pair.thinner.taken(ts)
                pair.published += 1
                batch.append((pair.thinned, ts))
        reasons = limiter.decide(batch)
        admitted = {name for (name, _), reason in zip(batch, reasons, strict=True) if reason is Reason.ADMITTED}
        allowances = storm.take_allowances()
        for pair in pairs:
            for name in (pair.whole, pair.thinned):
                pair.admitted[name] += name in admitted
            known = watch.limit(pair.thinned)
            # Where they differ, the change is on its way to one of them.
            pair.allowed += allowances[pair.whole] + (known is None or known.fps != limiter.told_fps(pair.whole))


@contextlib.contextmanager
def storming(storm: Storm) -> Iterator[None]:
    """Runs the storm in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=storm.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> int:
    """Prints what happened and one line of JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="of the random choices; by default a new one, which is printed")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"{options.cameras} cameras over {options.minutes:g} minutes, seed {seed}", flush=True)
    pairs: list[Pair] = []
    with (
        programs.forks(),
        valkey() as server,
        contextlib.closing(Storm(server, pairs, random.Random(seed))) as storm,
        LimitsWatch(storm.address) as watch,
        RateLimiter(storm.address, default_fps=DEFAULT_FPS) as limiter,
    ):
        pairs += [Pair(number, watch) for number in range(options.cameras)]
        for pair in pairs:
            watch.watch(pair.thinned, SOURCE_FPS)
        wait_until(lambda: watch.wait_told(1.0), "the limits are told")
        if not limiter.wait_ready(60.0):
            raise RuntimeError("the sidecar doesn't answer")
        with storming(storm):
            play(pairs, limiter, watch, storm, 60.0 * options.minutes)
    whole = sum(pair.admitted[pair.whole] for pair in pairs)
    thinned = sum(pair.admitted[pair.thinned] for pair in pairs)
    published = sum(pair.published for pair in pairs)
    wrong = [pair.whole for pair in pairs if pair.difference > pair.allowed]
    figures = {
        "restarts": storm.restarts,
        "freezes": storm.freezes,
        "changes": storm.changes,
        "admitted": whole,
        "admitted_thinned": thinned,
        "published_thinned": published,
        "largest_difference": max(pair.difference for pair in pairs),
        "allowed": sum(pair.allowed for pair in pairs) / len(pairs),
    }
    print(f"{storm.restarts} restarts, {storm.freezes} freezes, {storm.changes} changes of limits")
    print(f"{whole} frames admitted of all, {thinned} of the {published} that thinning published")
    print(f"the two differ by {figures['largest_difference']} frames of a camera at most; {figures['allowed']:.1f} may")
    print("good" if not wrong else f"FAILED: {', '.join(wrong[:10])}")
    print(json.dumps({"bench": "chaos.thinning", "seed": seed, "wrong": len(wrong), **figures}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
