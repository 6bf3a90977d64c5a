"""Everything fails at once, and the accounting stays exact."""

import json
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.processes.sidecars import sidecar_process
from support.processes.workers import KEYS, QueueServer, Worker, accounting, balance, pending, publish_many, worker

SECONDS = 8.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_accounting_is_exact_whatever_happens(tmp_path: Path, seed: int) -> None:
    """Workers and Redis are killed and frozen at random; after a drain every entry was settled exactly once.

    One of the workers has a fake GPU.
    """
    chance = random.Random(seed)
    flags = ("--claim-idle", "0.5", "--batch-size", "32", "--max-deliveries", "1000", "--grace", "1")
    valkey = QueueServer(tmp_path)
    published = 0
    with ExitStack() as stack:
        stack.callback(valkey.close)
        sidecar = stack.enter_context(sidecar_process(redis_url=valkey.url, fps=10.0))

        def start(name: str) -> Worker:
            return stack.enter_context(
                worker(
                    valkey, "--consumer", name, *flags, seconds=0.01, gpu=name.startswith("b"), sidecar=sidecar.address
                )
            )

        workers = {name: start(name) for name in ("a", "b")}
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            publish_many(valkey.bytes, 60, streams=3, name=f"cam-{published}-")
            published += 60
            time.sleep(chance.uniform(0.05, 0.5))  # the faults hit at any point of the work
            name = chance.choice(sorted(workers))
            match chance.choice(("kill", "terminate", "freeze", "freeze", "redis frozen", "redis killed")):
                case "kill":
                    workers[name].kill()
                    workers[name] = start(name)
                case "terminate":
                    assert workers[name].terminate() == 0, workers[name].log
                    workers[name] = start(name + "x")
                case "freeze":
                    workers[name].process.send_signal(signal.SIGSTOP)
                    time.sleep(chance.uniform(0.1, 1.5))  # sometimes longer than --claim-idle
                    workers[name].process.send_signal(signal.SIGCONT)
                case "redis frozen":
                    valkey.pause()
                    time.sleep(chance.uniform(0.1, 0.5))
                    valkey.resume()
                case "redis killed":
                    valkey.kill()
                    valkey.restart()
        for each in workers.values():
            assert each.terminate() == 0, each.log
        with worker(valkey, "--consumer", "last", *flags, "--drain") as last:
            assert last.wait() == 0
        fields = accounting(valkey.bytes)
        assert fields["received"] == published
        assert balance(valkey.bytes) == pending(valkey.bytes) == 0
        counted = [json.loads(entry[b"result"])["entry_id"] for _, entry in valkey.bytes.xrange(KEYS.counts)]
        assert len(counted) == len(set(counted)) == fields["counted"]
        # What was adopted and then settled by a worker that was only frozen is subtracted again.
        ways = {way for way, number in fields.items() if number}
        assert ways <= {"received", "counted", "skipped:too_soon", "skipped:late", "skipped:duplicate"}
