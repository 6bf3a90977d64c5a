"""The cost of a counted frame at the worker with a model that takes no time, by thread: all but the counting itself.

    python -m bench.worker_count

One process runs the whole pipeline, as ``hand-counter run`` does, on a queue of small pictures in a real Valkey, without a
limit. Prints microseconds of CPU per frame: of the process, of each of its threads, and of the stages alone, in one thread and
without a queue. Also prints how often Redis gets each command per frame, which shows how many frames share one.
"""

import argparse
import json
import statistics
import threading
import time
from collections import Counter, defaultdict

import redis
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.processes.workers import picture
from support.redis.valkey import valkey

from bench.stages_rate import stages_rate
from bench.worker_throughput import KEYS, OPTIONS, SHOWING_NOTHING, Unlimited, fill
from worker.hands.detection import Hands
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.picture import Picture
from worker.pipeline.pipeline import Pipeline
from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.redis_client import connect


class Instant(FakeDetector):
    """Finds one hand in no time."""

    def detect(self, image: Picture) -> Hands:  # noqa: ARG002
        """Finds one hand."""
        return ONE_HAND


def measure(url: str, threads: int, frames: int, options: PipelineOptions) -> dict[str, float]:
    """Counts the frames of the queue; returns microseconds of CPU per frame of the process (``all``) and of its threads."""
    queue = Queue(Commands(connect(url), KEYS), "bench")
    metrics = Metrics()
    pipeline = Pipeline(queue, Unlimited(), [Instant() for _ in range(threads)], metrics, options)
    others, before = set(threading.enumerate()), time.process_time()
    pipeline.start()
    started = [each for each in threading.enumerate() if each not in others and each.name != "reader"]
    pipeline.done.wait()  # the reader ends then, and its clock with it
    spent = {"all": time.process_time() - before}
    by_thread: Counter[str] = Counter()
    for thread in started:
        assert thread.ident is not None
        by_thread[thread.name.partition("-")[0]] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    pipeline.stop(10.0)
    queue.close()
    counted = metrics.total(metrics.counted)
    if counted != frames:
        raise RuntimeError(f"{counted} frames were counted, not {frames}")
    spent |= by_thread
    spent["reader"] = spent["all"] - sum(by_thread.values())  # with this thread, which only waits
    return {name: seconds / frames * 1e6 for name, seconds in spent.items()}


def commands(client: redis.Redis) -> Counter[str]:
    """Returns how often each command was called, those of scripts included."""
    return Counter({name.partition("_")[2]: stat["calls"] for name, stat in client.info("commandstats").items()})


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=3000, help="per round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a round of the stages alone")
    options = parser.parse_args()
    ways = {"as it ships": OPTIONS, "nothing shown": SHOWING_NOTHING}
    rounds: dict[str, defaultdict[str, list[float]]] = {way: defaultdict(list) for way in ways}
    with valkey() as server:
        client = redis.Redis(port=server.port)
        for _ in range(options.rounds):
            alone = stages_rate([Instant()], picture(), options.seconds)
            rounds["nothing shown"]["stages alone"].append(alone.cpu_s / alone.frames * 1e6)
            for way, each in ways.items():
                fill(client, picture(), options.frames)
                client.config_resetstat()
                for name, spent in measure(server.url, options.threads, options.frames, each).items():
                    rounds[way][name].append(spent)
                for name, calls in commands(client).items():
                    rounds[way][f"{name}, calls"].append(calls / options.frames)
        client.close()
    figures = {
        way: {name: (min(values), statistics.median(values)) for name, values in by_name.items()}
        for way, by_name in rounds.items()
    }
    print(
        f"µs of CPU per counted frame, {options.threads} decoding threads; least and median of {options.rounds} rounds"
    )
    print(f"{'':24}" + "".join(f"{way:>24}" for way in ways))
    for name in dict.fromkeys([*figures["as it ships"], *figures["nothing shown"]]):
        cells = [figures[way].get(name, (0.0, 0.0)) for way in ways]
        digits = 2 if name.endswith("calls") else 1
        if max(cell[1] for cell in cells) >= 0.005:
            print(f"{name:24}" + "".join(f"{least:14.{digits}f}{median:10.{digits}f}" for least, median in cells))
    print(json.dumps({"bench": "worker_count", **figures}))


if __name__ == "__main__":
    main()
