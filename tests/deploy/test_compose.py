"""Runs the compose file on a real engine: frames in, counts out."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from podrun import engine
from podrun.network import Network
from support.deploy import compose_services, needs_engine, run, tool
from support.processes.programs import REPOSITORY
from support.waiting import wait_until

from worker.queue.partitions import Partitions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500), needs_engine]

PAUSE = "hand-counter-compose-pause"
SECOND_PAUSE = "hand-counter-compose-pause-1"
SERVERS = ("redis", "sidecar", "worker")
CAMERAS = ("cam1", "cam4")
"""They belong to partitions 2 and 1 of four, so to different workers."""


@pytest.fixture
def address() -> Iterator[str]:
    """Returns the address that the services share here: this engine has no bridge, so they can't have one each.

    The second worker has one of its own, because both listen on the same port.
    """
    with Network("hccompose", "10.213.79") as network:
        address = network.reserve()
        try:
            for pause, own, servers in ((PAUSE, address, "127.0.0.1"), (SECOND_PAUSE, network.reserve(), address)):
                network.attach(engine.start_pause(pause, "compose", dict.fromkeys(SERVERS, servers), []), own)
            yield address
        finally:
            engine.docker("rm", "--force", PAUSE, SECOND_PAUSE)


def test_the_services_of_the_compose_file_count_frames(address: str, tmp_path: Path):
    """With the profile partitions: all become healthy in order, each of two workers counts its share, all stops cleanly."""
    # Overrides only what this engine lacks: the network, and with it the published ports.
    services = compose_services()
    pauses = {**dict.fromkeys(services, PAUSE), "worker-1": SECOND_PAUSE}
    lines = [f"  {name}: {{network_mode: 'container:{pauses[name]}', ports: !reset []}}\n" for name in services]
    (tmp_path / "override.yaml").write_text(f"services:\n{''.join(lines)}")
    files = ["--file", str(REPOSITORY / "compose.yaml"), "--file", str(tmp_path / "override.yaml")]
    command = [tool("docker-compose"), "--project-name", f"hc{os.getpid()}", *files, "--profile", "partitions"]

    def compose(*words: str, check: bool = True) -> str:
        return run(*command, *words, check=check, env={**os.environ, "PARTITIONS": "4", "OWN": "0/2"}).stdout

    try:
        compose("up", "--detach", "--pull", "never", "--wait", "--wait-timeout", "180")
        film = ("synthetic:fps=10,hands=2", "--count", "30", "--stream-name")
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda name: compose("run", "--rm", "publisher", *film, name), CAMERAS))
        with redis.Redis(host=address, decode_responses=True) as client:
            for key in (Partitions(number=4).keys_of(name).accounting for name in CAMERAS):
                wait_until(lambda key=key: int(client.hget(key, "counted") or 0) >= 2, "two frames of each are counted")
        compose("stop")
        codes = compose("ps", "--all", "--format", "{{.Service}} {{.ExitCode}}").split()
        ended = dict(zip(codes[::2], codes[1::2], strict=True))
        assert ended == dict.fromkeys(["redis", "sidecar", "worker", "worker-1"], "0")
    finally:
        compose("down", "--volumes", "--timeout", "5", check=False)
