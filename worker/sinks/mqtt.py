"""Results by MQTT 3.1.1, as home and building automation speaks it.

    PREFIX/streams/NAME/count      the number of hands in the last result; retained, so that later subscribers get it too
    PREFIX/streams/NAME/result     each result, JSON
    PREFIX/workers/NAME/online     1; retained. The broker replaces it by 0 when the worker is gone (last will)

NAME is percent-encoded where it has characters that topics give a meaning: / + # % and NUL.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from worker.queue.delivery import Counted
from worker.sinks.sink import SinkError

PREFIX = "hand-counter"
TIMEOUT_S = 10.0
"""For a connection, and for the acknowledgement of a batch."""

KEEPALIVE_S = 30
_QOS = 1

_ENCODED = {character: f"%{ord(character):02X}" for character in "/+#%\0"}


def topic_name(name: str) -> str:
    """Returns a name as one level of a topic."""
    return "".join(_ENCODED.get(character, character) for character in name)


class MqttSink:
    """Publishes to one broker."""

    def __init__(self, url: str, worker: str, timeout: float = TIMEOUT_S) -> None:
        """Takes mqtt://USER:PASSWORD@HOST:PORT/PREFIX, or mqtts:// for TLS; and the worker's name."""
        parts = urlsplit(url)
        self._host = parts.hostname or "localhost"
        self._tls = parts.scheme == "mqtts"
        self._port = parts.port or (8883 if self._tls else 1883)
        self._login = (unquote(parts.username), unquote(parts.password or "")) if parts.username is not None else None
        self._prefix = unquote(parts.path).strip("/") or PREFIX
        self._online = f"{self._prefix}/workers/{topic_name(worker)}/online"
        self._timeout = timeout
        self._client: paho.Client | None = None
        self._connected = threading.Event()
        self._refusal = ""

    def write(self, results: Sequence[Counted]) -> None:
        """Publishes the results, and the last count of each of their streams; returns when the broker has them."""
        client = self._opened()
        topics = [f"{self._prefix}/streams/{topic_name(result.stream_name)}" for result in results]
        last = {topic: result.hand_count for topic, result in zip(topics, results, strict=True)}
        sent = [
            client.publish(f"{topic}/result", result.result, qos=_QOS)
            for topic, result in zip(topics, results, strict=True)
        ]
        sent += [client.publish(f"{topic}/count", str(count), qos=_QOS, retain=True) for topic, count in last.items()]
        try:
            for each in sent:
                each.wait_for_publish(self._timeout)
            done = all(each.is_published() for each in sent)
        except (ValueError, RuntimeError) as error:  # the connection was lost, or too much is queued
            self._abandon()
            raise SinkError(f"the broker didn't take the results: {error}") from None
        if not done:
            self._abandon()
            raise SinkError("the broker didn't acknowledge the results in time")

    def close(self) -> None:
        """Says that the worker is gone, and disconnects."""
        client = self._client
        if client is not None and self._connected.is_set():
            with contextlib.suppress(ValueError, RuntimeError):  # then the last will says it
                client.publish(self._online, "0", qos=_QOS, retain=True).wait_for_publish(1.0)
        self._abandon()

    def _opened(self) -> paho.Client:
        if self._client is not None and self._connected.is_set():
            return self._client
        self._abandon()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        if self._login:
            client.username_pw_set(*self._login)
        if self._tls:
            client.tls_set()
        client.will_set(self._online, "0", qos=_QOS, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        self._client, self._refusal = client, ""
        try:
            client.connect(self._host, self._port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._abandon()
            raise SinkError(f"the broker can't be reached: {getattr(error, 'strerror', None) or error}") from None
        client.loop_start()
        if not self._connected.wait(self._timeout) or self._refusal:
            refusal = self._refusal or "no answer in time"
            self._abandon()
            raise SinkError(f"the broker refused the connection: {refusal}")
        client.publish(self._online, "1", qos=_QOS, retain=True)
        return client

    def _abandon(self) -> None:
        client, self._client = self._client, None
        self._connected.clear()
        if client is not None:
            client.on_connect = client.on_disconnect = None
            client.disconnect()
            client.loop_stop()

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        self._connected.set()

    def _on_disconnect(self, *_: Any) -> None:
        self._connected.clear()
