"""What happens to cameras, their list, their publisher and Redis: each is over when its function returns."""

import random
import signal
import time
from collections.abc import Callable

from support.waiting import wait_until

from chaos.cameras import PASSING, STEADY, Cameras

CameraFault = Callable[[Cameras, random.Random], None]

LONGEST_OUTAGE_S = 3.0
HALF_WRITTEN_S = 0.2
UNDERWAY_S = 0.5
"""By then Redis has the last frame of a camera that has ended."""


def ingest_is_killed(cameras: Cameras, _: random.Random) -> None:
    """The publisher is killed and starts again."""
    cameras.ingest.signal(signal.SIGKILL)
    cameras.restart_ingest()


def ingest_freezes(cameras: Cameras, chance: random.Random) -> None:
    """The publisher hangs; its cameras may give it up."""
    cameras.ingest.signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.1, LONGEST_OUTAGE_S))
    cameras.ingest.signal(signal.SIGCONT)


def redis_is_killed(cameras: Cameras, chance: random.Random) -> None:
    """Redis is killed and starts again with what its disk has."""
    cameras.redis.kill()
    time.sleep(chance.uniform(0.0, LONGEST_OUTAGE_S))
    cameras.redis.restart()
    wait_until(lambda: cameras.client.info("persistence")["loading"] == 0, "Redis has loaded its data")


def redis_freezes(cameras: Cameras, chance: random.Random) -> None:
    """Redis hangs, with all connections open."""
    cameras.redis.pause()
    time.sleep(chance.uniform(0.1, LONGEST_OUTAGE_S))
    cameras.redis.resume()


def cameras_die(cameras: Cameras, chance: random.Random) -> None:
    """Half of the cameras end, and return on their port."""
    number = chance.randrange(len(cameras.servers))
    cameras.servers[number].close()
    time.sleep(chance.uniform(0.0, LONGEST_OUTAGE_S))
    cameras.restart_server(number)


def cameras_fall_silent(cameras: Cameras, chance: random.Random) -> None:
    """Half of the cameras send nothing more, for longer than their time-out; then they are switched off and on."""
    number = chance.randrange(len(cameras.servers))
    cameras.servers[number].pause()
    time.sleep(LONGEST_OUTAGE_S)
    cameras.servers[number].close()
    cameras.restart_server(number)


def a_camera_is_left_out(cameras: Cameras, _: random.Random) -> None:
    """One camera is taken from the list and added again; the others aren't touched."""
    cameras.write(cameras.text(*STEADY))
    wait_until(lambda: cameras.state(PASSING) == "stopped", "the camera that was left out has ended")
    time.sleep(UNDERWAY_S)
    cameras.collect()
    cameras.before[PASSING] = len(cameras.frames[PASSING])
    cameras.write(cameras.text(*STEADY, PASSING))


def the_list_is_half_written(cameras: Cameras, chance: random.Random) -> None:
    """Its writer pauses. What is there already is a valid list without some of the cameras, of which none may end."""
    lines = cameras.text(*STEADY, PASSING).splitlines(keepends=True)
    cameras.list.write_text("".join(lines[: chance.randrange(3, len(lines))]))
    time.sleep(HALF_WRITTEN_S)
    cameras.list.write_text("".join(lines))


def the_list_is_wrong(cameras: Cameras, _: random.Random) -> None:
    """It has a mistake for a while."""
    refused = cameras.lists_refused()
    cameras.write(cameras.text(*STEADY).replace("name: cam1", "name:"))
    wait_until(lambda: cameras.lists_refused() > refused, "the list is refused")
    cameras.write(cameras.text(*STEADY, PASSING))


def the_list_is_a_pipe(cameras: Cameras, _: random.Random) -> None:
    """Somebody puts a pipe in its place, to which nobody writes."""
    refused = cameras.lists_refused()
    cameras.replace_by_pipe()
    wait_until(lambda: cameras.lists_refused() > refused, "the pipe is refused")
    cameras.write(cameras.text(*STEADY, PASSING))


CAMERA_FAULTS: tuple[CameraFault, ...] = (
    ingest_freezes,
    redis_is_killed,
    cameras_die,
    the_list_is_half_written,
    a_camera_is_left_out,
    redis_freezes,
    the_list_is_wrong,
    cameras_fall_silent,
    the_list_is_a_pipe,
    ingest_is_killed,
)
