"""The HTTP endpoint, over real sockets."""

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from process.http import HttpEndpoint


@pytest.fixture
def endpoint():
    registry = CollectorRegistry()
    Counter("toys", "Toys made.", registry=registry).inc(3)
    health = {"ok": True}
    server = HttpEndpoint("127.0.0.1:0", registry, lambda: (health["ok"], {"redis": "unreachable"}))
    yield server, health
    server.close()


def get(server, path):
    with urllib.request.urlopen(f"http://{server.address}{path}", timeout=120) as answer:
        return answer.read().decode()


def test_metrics(endpoint):
    """/metrics shows the registry in Prometheus' text format."""
    page = get(endpoint[0], "/metrics")
    assert "toys_total 3.0" in page
    assert "_created" not in page


def test_ipv6():
    """The endpoint listens on an IPv6 address in brackets and shows it in brackets."""
    server = HttpEndpoint("[::1]:0", CollectorRegistry(), lambda: (True, {}))
    try:
        assert server.address.startswith("[::1]:")
        assert json.loads(get(server, "/healthz")) == {"healthy": True}
    finally:
        server.close()


def test_healthz_has_the_state_in_status_and_body(endpoint):
    """/healthz is 200 while healthy and 503 when not, with the details either way."""
    server, health = endpoint
    assert json.loads(get(server, "/healthz")) == {"healthy": True, "redis": "unreachable"}
    health["ok"] = False
    with pytest.raises(urllib.error.HTTPError) as answer:
        get(server, "/healthz")
    assert answer.value.code == 503
    assert json.load(answer.value) == {"healthy": False, "redis": "unreachable"}


def test_another_path_is_not_found(endpoint):
    """Any other path is 404."""
    with pytest.raises(urllib.error.HTTPError) as answer:
        get(endpoint[0], "/")
    assert answer.value.code == 404
    answer.value.close()


def test_a_taken_port_is_an_error(endpoint):
    """A port that is in use raises OSError at once."""
    with pytest.raises(OSError, match="in use"):
        HttpEndpoint(endpoint[0].address, CollectorRegistry(), lambda: (True, {}))
