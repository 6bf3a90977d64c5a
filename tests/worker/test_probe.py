"""The probe for container runtimes that can't make HTTP requests."""

from prometheus_client import CollectorRegistry

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
