"""Runs the compose file on a real engine: frames in, counts out."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml
from podrun import engine
from podrun.network import Network
from support.deploy import needs_engine, run, tool
from support.processes.programs import REPOSITORY
from support.waiting import wait_until

from worker.queue.keys import Keys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500), needs_engine]

PAUSE = "hand-counter-compose-pause"


@pytest.fixture
def address() -> Iterator[str]:
    """Returns the address that all services share here: this engine has no bridge, so they can't have one each."""
    with Network("hccompose", "10.213.79") as network:
        pid = engine.start_pause(PAUSE, "compose", dict.fromkeys(("redis", "sidecar", "worker"), "127.0.0.1"), [])
        try:
            network.attach(pid, address := network.reserve())
            yield address
        finally:
            engine.docker("rm", "--force", PAUSE)


def test_the_services_of_the_compose_file_count_frames(address: str, tmp_path: Path):
    """All services become healthy in order, a published video file is counted, and everything stops cleanly."""
    # Overrides only what this engine lacks: the network, and with it the published ports.
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    overrides = "".join(f"  {name}: {{network_mode: 'container:{PAUSE}', ports: !reset []}}\n" for name in services)
    (tmp_path / "override.yaml").write_text(f"services:\n{overrides}")
    compose = [tool("docker-compose"), "--project-name", f"hc{os.getpid()}"]
    compose += ["--file", str(REPOSITORY / "compose.yaml"), "--file", str(tmp_path / "override.yaml")]
    try:
        run(*compose, "up", "--detach", "--pull", "never", "--wait", "--wait-timeout", "180")
        publish = ["synthetic:fps=10,hands=2", "--stream-name", "cam1", "--count", "30"]
        run(*compose, "run", "--rm", "publisher", *publish)
        with redis.Redis(host=address, decode_responses=True) as client:
            wait_until(lambda: int(client.hget(Keys().accounting, "counted") or 0) >= 2, "two frames are counted")
        run(*compose, "stop")
        codes = run(*compose, "ps", "--all", "--format", "{{.Service}} {{.ExitCode}}").stdout.split()
        assert dict(zip(codes[::2], codes[1::2], strict=True)) == {"redis": "0", "sidecar": "0", "worker": "0"}
    finally:
        run(*compose, "down", "--volumes", "--timeout", "5", check=False)
