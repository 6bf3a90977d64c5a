"""The HTTP endpoint, over real sockets."""

import contextlib
import errno
import itertools
import json
import os
import resource
import selectors
import socket
import socketserver
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from support.waiting import wait_until

from process import http
from process.http import MAX_CONNECTIONS, HttpEndpoint


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


def test_livez_says_whether_a_restart_would_help():
    """It has a verdict of its own; without one it is 200 as long as the process answers."""
    verdicts = iter([(True, {"stuck": 1}), (False, {"stuck": 99})])
    server = HttpEndpoint("127.0.0.1:0", CollectorRegistry(), lambda: (False, {}), lambda: next(verdicts))
    plain = HttpEndpoint("127.0.0.1:0", CollectorRegistry(), lambda: (False, {}))
    try:
        assert json.loads(get(server, "/livez")) == {"healthy": True, "stuck": 1}
        with pytest.raises(urllib.error.HTTPError) as answer:
            get(server, "/livez")
        assert answer.value.code == 503
        answer.value.close()
        assert json.loads(get(plain, "/livez")) == {"healthy": True}
    finally:
        server.close()
        plain.close()


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


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTT", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
def test_connections_that_wait_for_nothing_leave_room(endpoint, sent):
    """Any number of silent or half-sent connections: the endpoint answers, and holds only its number of descriptors."""
    before = len(descriptors())
    with contextlib.ExitStack() as stack:
        for _ in range(10 * MAX_CONNECTIONS):
            client = stack.enter_context(connected(endpoint[0]))
            client.sendall(sent)
        assert "toys_total" in get(endpoint[0], "/metrics")
        ours = 10 * MAX_CONNECTIONS
        wait_until(lambda: len(descriptors()) <= before + ours + MAX_CONNECTIONS)


def test_a_connection_ends_after_its_time(endpoint, monkeypatch):
    """A connection that sends a byte now and then is closed all the same."""
    monkeypatch.setattr(http, "CONNECTION_S", 0.2)
    with connected(endpoint[0]) as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET /")
        client.settimeout(60)
        assert client.recv(1) == b""


def test_an_idle_endpoint_wakes_for_nothing(monkeypatch):
    """Without connections it waits for the next one or its end, however long that takes, and ends at once."""
    waits = []

    class Recorder(selectors.PollSelector):
        def select(self, timeout=None):
            waits.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "PollSelector", Recorder)
    HttpEndpoint("127.0.0.1:0", CollectorRegistry(), lambda: (True, {})).close()
    assert waits == [None]


def test_no_descriptor_is_left(endpoint, caplog):
    """Without a descriptor to accept with, the loop rests between attempts, says so once, and serves again afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connected(endpoint[0], connect=False) as client:
        highest = max(descriptors())
        try:
            spare = occupy(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            client.connect(address(endpoint[0]))
            busy = time.process_time()
            time.sleep(1)
            busy = time.process_time() - busy
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in spare:
                os.close(descriptor)
        assert busy < 0.5
        assert "toys_total" in get(endpoint[0], "/metrics")
    assert [record.reason for record in caplog.records if record.name == "process.http"] == ["Too many open files"]


def test_descriptors_that_come_and_go_are_said_once(endpoint, monkeypatch, caplog):
    """As when every closed connection makes room for one more: the log isn't filled."""
    accept = socketserver.TCPServer.get_request
    outcomes = itertools.cycle([OSError(errno.EMFILE, "Too many open files"), None])

    def get_request(server):
        if error := next(outcomes):
            raise error
        return accept(server)

    monkeypatch.setattr(socketserver.TCPServer, "get_request", get_request)
    for _ in range(5):
        assert "toys_total" in get(endpoint[0], "/metrics")
    assert [record.reason for record in caplog.records if record.name == "process.http"] == ["Too many open files"]


def address(server):
    host, _, port = server.address.rpartition(":")
    return host, int(port)


def connected(server, *, connect=True):
    client = socket.socket()
    if connect:
        client.connect(address(server))
    return client


def occupy(highest):
    """Opens every descriptor up to this one."""
    taken = []
    while (descriptor := os.open("/dev/null", os.O_RDONLY)) < highest:
        taken.append(descriptor)
    return [*taken, descriptor]


def descriptors():
    """Returns the open descriptors of this process."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
