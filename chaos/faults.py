"""The faults: each is over when its function returns, and everything that it killed runs again."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from support.waiting import wait_until

from chaos.system import CLAIM_IDLE_S, KEYS, LIMITS_KEY, System, freeze, thaw
from worker.queue.keys import CONSUMER_GROUP

Fault = Callable[[System, random.Random], float | None]
"""Returns how long the takeover of a dead worker's entries took, seconds, where there is one."""

LONGEST_OUTAGE_S = 3.0
SPOILED_S = 2.0
HUGE_BYTES = 8 << 20


def worker_restarts(system: System, chance: random.Random) -> None:
    """A worker is killed, and its container starts again under the same name."""
    name = chance.choice(sorted(system.workers))
    system.workers[name].kill()
    system.restart_worker(name)


def worker_is_replaced(system: System, chance: random.Random) -> float:
    """A worker is killed while it holds frames, and another pod takes its place; what it held is taken over."""
    name = chance.choice(sorted(system.workers))

    def freezes_with_frames() -> bool:
        if system.held_by(name):
            freeze(system.workers[name].process)
            if system.held_by(name):
                return True
            thaw(system.workers[name].process)
        return False

    wait_until(freezes_with_frames, "a worker holds a frame", every_s=0.002)
    system.workers[name].kill()
    killed, held = time.monotonic(), system.held_by(name)
    system.replace_worker(name)
    wait_until(lambda: not held & system.held_by(name), "what a dead worker held is taken over")
    return time.monotonic() - killed


def worker_freezes(system: System, chance: random.Random) -> None:
    """A worker hangs, sometimes for so long that another one takes over what it holds."""
    process = system.workers[chance.choice(sorted(system.workers))].process
    freeze(process)
    time.sleep(chance.uniform(0.1, 2 * CLAIM_IDLE_S))
    thaw(process)


def sidecar_is_killed(system: System, chance: random.Random) -> None:
    """The sidecar is killed and starts again."""
    system.sidecar.kill()
    time.sleep(chance.uniform(0.0, LONGEST_OUTAGE_S))
    system.restart_sidecar()


def sidecar_freezes(system: System, chance: random.Random) -> None:
    """The sidecar hangs."""
    freeze(system.sidecar.process)
    time.sleep(chance.uniform(0.1, LONGEST_OUTAGE_S))
    thaw(system.sidecar.process)


def redis_is_killed(system: System, chance: random.Random) -> None:
    """Redis is killed and starts again with what its disk has."""
    system.server.kill()
    time.sleep(chance.uniform(0.0, LONGEST_OUTAGE_S))
    system.server.restart()
    wait_until(lambda: system.client.info("persistence")["loading"] == 0, "Redis has loaded its data")


def redis_freezes(system: System, chance: random.Random) -> None:
    """Redis hangs, with all connections open."""
    system.server.pause()
    time.sleep(chance.uniform(0.1, LONGEST_OUTAGE_S))
    system.server.resume()


def memory_is_full(system: System, _: random.Random) -> None:
    """Redis rejects all writes: it has no memory left."""
    system.client.config_set("maxmemory", "1")
    time.sleep(SPOILED_S)
    system.client.config_set("maxmemory", "0")


def disk_is_full(system: System, _: random.Random) -> None:
    """Redis rejects all writes: it can't save its data."""
    blocker = Path(system.client.config_get("dir")["dir"], "dump.rdb")
    blocker.unlink(missing_ok=True)
    blocker.mkdir()  # where Redis would save

    def saving(status: str) -> bool:
        about = system.client.info("persistence")
        if not about["rdb_bgsave_in_progress"] and about["rdb_last_bgsave_status"] != status:
            system.client.execute_command("BGSAVE")
        return bool(about["rdb_last_bgsave_status"] == status)

    wait_until(lambda: saving("err"), "Redis can't save")
    time.sleep(SPOILED_S)
    blocker.rmdir()
    wait_until(lambda: saving("ok"), "Redis can save")


def queue_is_trimmed(system: System, _: random.Random) -> None:
    """Somebody deletes all entries of the queue."""
    system.client.xtrim(KEYS.frames, maxlen=0, approximate=False)


def group_is_destroyed(system: System, _: random.Random) -> None:
    """Somebody destroys the consumer group."""
    system.client.xgroup_destroy(KEYS.frames, CONSUMER_GROUP)


def queue_has_a_wrong_type(system: System, _: random.Random) -> None:
    """Somebody replaces the queue by a string, and deletes that later."""
    system.client.set(KEYS.frames, "not a queue")
    time.sleep(SPOILED_S)
    system.client.delete(KEYS.frames)


def limits_have_a_wrong_type(system: System, _: random.Random) -> None:
    """Somebody replaces the limits by a string, and writes them again later."""
    system.client.set(LIMITS_KEY, "not a hash")
    time.sleep(SPOILED_S)
    system.client.delete(LIMITS_KEY)
    system.set_limits()


def entries_are_huge(system: System, _: random.Random) -> None:
    """Somebody adds entries of many megabytes that are no frames."""
    for number in range(8):
        system.client.xadd(KEYS.frames, {"stream_name": f"huge{number}", "ts": "1", "frame": bytes(HUGE_BYTES)})


def everything_is_deleted(system: System, _: random.Random) -> None:
    """Somebody flushes Redis, and writes the limits again."""
    system.client.flushall()
    system.set_limits()


KILLS: tuple[Fault, ...] = (
    worker_restarts,
    worker_is_replaced,
    worker_freezes,
    sidecar_is_killed,
    sidecar_freezes,
    redis_is_killed,
    redis_freezes,
)
"""None of these may cost a frame."""

SPOILS: tuple[Fault, ...] = (
    memory_is_full,
    disk_is_full,
    queue_is_trimmed,
    group_is_destroyed,
    queue_has_a_wrong_type,
    limits_have_a_wrong_type,
    entries_are_huge,
    everything_is_deleted,
)
"""Some of these delete entries. What is left must recover by itself, and balance."""


def name_of(fault: Callable[..., object]) -> str:
    """Returns the name that is printed."""
    return fault.__name__.replace("_", " ")
