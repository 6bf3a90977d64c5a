"""The probe for container runtimes that can't make HTTP requests."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.processes.ports import free_port

from process.http import HttpEndpoint
from worker.probe import main


def test_the_exit_code_is_the_health(capsys):
    """0 if healthy, 1 if not or if the worker doesn't answer; standard error says why."""
    verdict = [True]
    endpoint = HttpEndpoint("127.0.0.1:0", CollectorRegistry(), lambda: (verdict[0], {"redis": "refused"}))
    try:
        assert main([endpoint.address]) == 0
        assert main([], {"WORKER_HTTP": endpoint.address.replace("127.0.0.1", "0.0.0.0")}) == 0
        assert capsys.readouterr().err == ""
        verdict[0] = False
        assert main([endpoint.address]) == 1
        assert "503" in (said := capsys.readouterr().err)
        assert "refused" in said
    finally:
        endpoint.close()
    assert main([endpoint.address]) == 1
    assert "refused" in capsys.readouterr().err


def test_an_invalid_address_is_one_line(capsys):
    """With exit code 2 for wrong usage."""
    assert main(["--help"]) == 2
    assert capsys.readouterr().err == "python -m worker.probe [HOST:PORT]: expected HOST:PORT, got '--help'\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/opt/venv/bin/python /opt/venv/bin/hand-counter publish rtsp://camera/ --stream-name run", 0),
        ("/sbin/docker-init -- hand-counter publish synthetic: --stream-name cam1", 0),
        ("/opt/venv/bin/python /opt/venv/bin/hand-counter detect photos/", 0),
        ("/opt/venv/bin/python /opt/venv/bin/hand-counter run --drain", 1),
        ("/sbin/docker-init -- hand-counter run", 1),
        ("/sbin/init", 1),
        ("", 1),
    ],
)
def test_only_a_worker_is_asked(command: str, expected: int, tmp_path: Path):
    """A container that publishes has nothing to ask, and isn't unhealthy for that; no worker answers here."""
    first = tmp_path / "cmdline"
    first.write_text("".join(f"{word}\0" for word in command.split()))
    assert main([], {"WORKER_HTTP": f"127.0.0.1:{free_port()}"}, first) == expected
    assert main([f"127.0.0.1:{free_port()}"], {}, first) == 1, "an address that is given is asked"


def test_without_proc_a_worker_is_asked(tmp_path: Path):
    """On a system that doesn't show its processes."""
    assert main([], {"WORKER_HTTP": f"127.0.0.1:{free_port()}"}, tmp_path / "absent") == 1
