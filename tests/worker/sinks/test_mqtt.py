"""Results by MQTT, with Debian's Mosquitto."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from support.processes.ports import free_port
from support.results import counted
from support.sink_servers import mosquitto
from support.waiting import wait_until

from worker.sinks.mqtt import MqttSink, topic_name
from worker.sinks.sink import SinkError

Messages = list[tuple[str, bytes, bool]]


@contextmanager
def subscriber(port: int, password: str = "") -> Iterator[Messages]:
    """Notes topic, payload and whether it was retained of all messages."""
    messages: Messages = []
    ready: list[object] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    if password:
        client.username_pw_set("worker", password)
    client.on_message = lambda _client, _data, message: messages.append(
        (message.topic, message.payload, message.retain)
    )
    client.on_subscribe = lambda *words: ready.append(words)
    client.connect("127.0.0.1", port)
    client.subscribe("#", qos=1)
    client.loop_start()
    try:
        wait_until(lambda: ready, "subscribed")
        yield messages
    finally:
        client.disconnect()
        client.loop_stop()


def test_results_counts_and_presence() -> None:
    """Each result, the last count of each stream, and whether the worker is there; the last two are retained."""
    with mosquitto() as port:
        sink = MqttSink(f"mqtt://127.0.0.1:{port}/site", "pod/1")
        with subscriber(port) as live:
            sink.write([counted(1, hands=2), counted(2, "hall/east+1", 3), counted(3, hands=0)])
            wait_until(lambda: len(live) == 6)
        topics = {topic: payload for topic, payload, _ in live}
        assert json.loads(topics["site/streams/cam1/result"])["entry_id"] == "3-0"
        assert json.loads(topics["site/streams/hall%2Feast%2B1/result"])["entry_id"] == "2-0"
        with subscriber(port) as retained:
            wait_until(lambda: len(retained) == 3)
        assert {(topic, payload) for topic, payload, _ in retained} == {
            ("site/streams/cam1/count", b"0"),
            ("site/streams/hall%2Feast%2B1/count", b"3"),
            ("site/workers/pod%2F1/online", b"1"),
        }
        assert all(was_retained for *_, was_retained in retained)
        with subscriber(port) as live:
            wait_until(lambda: len(live) == 3)
            sink.close()
            wait_until(lambda: ("site/workers/pod%2F1/online", b"0", False) in live)


def test_the_broker_tells_of_a_worker_that_is_gone() -> None:
    """By its last will, when the connection breaks."""
    with mosquitto() as port:
        sink = MqttSink(f"mqtt://127.0.0.1:{port}", "me")
        sink.write([counted()])
        with subscriber(port) as live:
            sink._client.socket().close()
            wait_until(lambda: ("hand-counter/workers/me/online", b"0", False) in live)
        sink.close()


def test_a_broker_that_comes_back_gets_the_results() -> None:
    """Until then each write is an error."""
    port = free_port()
    sink = MqttSink(f"mqtt://127.0.0.1:{port}", "me", timeout=5.0)
    with mosquitto(port):
        sink.write([counted(1)])
    with pytest.raises(SinkError):
        sink.write([counted(2)])
    with pytest.raises(SinkError, match="reached"):
        sink.write([counted(2)])
    with mosquitto(port), subscriber(port) as live:
        sink.write([counted(2)])
        wait_until(lambda: any(topic.endswith("/result") for topic, *_ in live))
        sink.close()


@contextmanager
def silent_broker() -> Iterator[int]:
    """Accepts a client and acknowledges nothing; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"\x20\x02\x00\x00")  # CONNACK
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10.0)


def test_a_broker_that_hangs_costs_one_timeout() -> None:
    """And not one for each message."""
    with silent_broker() as port:
        sink = MqttSink(f"mqtt://127.0.0.1:{port}", "me", timeout=0.5)
        started = time.monotonic()
        with pytest.raises(SinkError, match="in time"):
            sink.write([counted(i) for i in range(100)])
        assert time.monotonic() - started < 100 * 0.5 / 2
        sink.close()


def test_a_login() -> None:
    """A wrong password is an error that doesn't repeat it."""
    with mosquitto(password="SECRET") as port:
        right = MqttSink(f"mqtt://worker:SECRET@127.0.0.1:{port}", "me")
        right.write([counted()])
        right.close()
        with pytest.raises(SinkError, match="refused") as error:
            MqttSink(f"mqtt://worker:SECRET2@127.0.0.1:{port}", "me").write([counted()])
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "topic"), [("cam1", "cam1"), ("Tür 1", "Tür 1"), ("a/b", "a%2Fb"), ("+", "%2B"), ("50%#", "50%25%23")]
)
def test_a_name_is_one_level_of_a_topic(name: str, topic: str) -> None:
    """Reversibly."""
    assert topic_name(name) == topic
