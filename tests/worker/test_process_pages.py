"""The pages of several processes as one."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from process.http import HttpEndpoint
from worker import process_pages
from worker.group_health import Member
from worker.process_pages import ProcessPages, fetch
from worker.status import STARTING_S


class Process:
    """A process with its endpoint."""

    def __init__(self, stack: ExitStack) -> None:
        self.healthy = self.alive = True
        registry = CollectorRegistry()
        self.counted = Counter("counted", "Frames.", registry=registry)
        self.up = Gauge("up", "Whether.", ["what"], registry=registry)
        self.seconds = Histogram("seconds", "How long.", registry=registry, buckets=(0.5, 1.0))
        endpoint = HttpEndpoint(
            "127.0.0.1:0", registry, lambda: (self.healthy, {"redis": "ok"}), lambda: (self.alive, {"turned": 1})
        )
        stack.callback(endpoint.close)
        self.address = endpoint.address


def pages_of(*processes: Process | Member) -> ProcessPages:
    """Returns the pages of processes."""
    members = [Member(each.address) if isinstance(each, Process) else each for each in processes]
    return ProcessPages(members.copy)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Is closed at the end."""
    with ExitStack() as opened:
        yield opened


def test_metrics_of_all_processes_have_their_number(stack: ExitStack) -> None:
    """Each family is there once, with its type and text; counters and histograms keep the names of their samples."""
    one, two = Process(stack), Process(stack)
    one.counted.inc(3)
    two.counted.inc(4)
    one.up.labels('a "b"').set(float("nan"))
    two.seconds.observe(0.7)
    pages = pages_of(one, two)
    lines = generate_latest(pages.registry).decode().splitlines()
    assert [line for line in lines if line.startswith(("# ", "counted", "up"))] == [
        "# HELP counted_total Frames.",
        "# TYPE counted_total counter",
        'counted_total{process="0"} 3.0',
        'counted_total{process="1"} 4.0',
        "# HELP up Whether.",
        "# TYPE up gauge",
        'up{process="0",what="a \\"b\\""} NaN',
        "# HELP seconds How long.",
        "# TYPE seconds histogram",
    ]
    assert 'seconds_bucket{le="1.0",process="1"} 1.0' in lines
    assert 'seconds_sum{process="1"} 0.7' in lines


def test_the_group_is_as_healthy_as_its_worst_process(stack: ExitStack) -> None:
    """The answer of each is shown; one that starts is alive and not ready, one that has ended is left out."""
    one, two = Process(stack), Process(stack)
    members = [Member(), Member(two.address)]
    pages = ProcessPages(members.copy)
    says, lives = {"healthy": True, "redis": "ok"}, {"healthy": True, "turned": 1}
    assert pages.health() == (False, {"processes": [{"state": "starting"}, says]})
    assert pages.alive() == (True, {"processes": [{"state": "starting"}, lives]})
    members[0] = Member(one.address)
    assert pages.health() == (True, {"processes": [says, says]})
    two.healthy = one.alive = False
    assert pages.health() == (False, {"processes": [says, says | {"healthy": False}]})
    assert pages.alive() == (False, {"processes": [lives | {"healthy": False}, lives]})
    members[1] = members[1]._replace(ended=True)
    assert pages.health() == (True, {"processes": [says, {"state": "done"}]})


def test_a_start_that_takes_too_long(stack: ExitStack) -> None:
    """A process that has never opened its pages is stuck then, whatever the others say."""
    clock = SimpleNamespace(now=100.0)
    members = [Member(Process(stack).address), Member()]
    pages = ProcessPages(members.copy, lambda: clock.now)
    clock.now += STARTING_S - 1.0
    assert pages.alive()[0]
    clock.now += 1.0
    assert not pages.alive()[0]


def test_one_that_ends_while_it_is_asked() -> None:
    """It doesn't count as one that doesn't answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
    known = iter([[Member(address)], [Member(address, ended=True)]])  # before it is asked, and then
    assert ProcessPages(lambda: next(known)).health() == (True, {"processes": [{"state": "done"}]})


def test_a_process_that_doesnt_answer_is_stuck(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metrics are missing, the others' are there."""
    monkeypatch.setattr(process_pages, "TIMEOUT_S", 0.5)
    gone = ExitStack()
    pages = pages_of(Process(stack), Process(gone))
    gone.close()
    healthy, details = pages.alive()
    assert (healthy, details["processes"]) == (False, [{"healthy": True, "turned": 1}, {"state": "no answer"}])
    text = generate_latest(pages.registry).decode()
    assert 'counted_total{process="0"} 0.0' in text
    assert 'process="1"' not in text


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 503 Oh\r\nContent-Length: 90\r\n\r\n{", b"HTTP/1.0 200 OK\r\n\r\n{", b"what\n"]
)
def test_a_process_that_ends_while_it_answers(answer: bytes) -> None:
    """Is as good as one that doesn't answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply, daemon=True)
        thread.start()
        address = "{}:{}".format(*server.getsockname())
        assert pages_of(Member(address)).alive() == (False, {"processes": [{"state": "no answer"}]})
        thread.join()


def test_no_process_has_opened_its_pages() -> None:
    """There are no metrics yet."""
    assert generate_latest(pages_of(Member(), Member()).registry) == b""


def test_one_endpoint_serves_all(stack: ExitStack) -> None:
    """As the worker does."""
    pages = pages_of(Process(stack))
    endpoint = HttpEndpoint("127.0.0.1:0", pages.registry, pages.health, pages.alive)
    stack.callback(endpoint.close)
    assert fetch(f"http://{endpoint.address}/healthz").status == 200
    with urllib.request.urlopen(f"http://{endpoint.address}/livez") as answer:
        assert json.load(answer)["processes"] == [{"healthy": True, "turned": 1}]
    assert 'counted_total{process="0"}' in fetch(f"http://{endpoint.address}/metrics").text
