"""The HTTP endpoint of a process: /metrics for Prometheus, /healthz and /livez for probes and people.

Clients that connect and send nothing, half a request, or don't read the answer can't take the process's descriptors and
threads: at most MAX_CONNECTIONS are open, and the next one closes the oldest. A real request takes milliseconds, so the oldest
is one that waits for nothing.
"""

import contextlib
import io
import json
import logging
import math
import selectors
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, disable_created_metrics, make_wsgi_app

from process.address import split_host_port

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

Health = Callable[[], tuple[bool, dict[str, object]]]
"""Returns whether the process can do its work, and details to show."""

MAX_CONNECTIONS: Final = 16
"""More than Prometheus, the kubelet and a few people need at a time; few beside the least usual limit of descriptors."""

CONNECTION_S: Final = 10.0
"""How long a connection may last, which has one request. Prometheus itself gives up after 10 s."""

_NO_DESCRIPTOR_S: Final = 0.1
_WARN_EVERY_S: Final = 60.0
"""A connection may be accepted between two that are not."""
"""How long to wait before the next attempt when a connection can't be accepted. It stays ready, so the loop would spin."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128
    timeout = 0.0
    """handle_request is only called when a connection waits, so it never blocks."""

    def __init__(self, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self._opened: dict[socket.socket, float] = {}
        """When each connection was accepted, the oldest first."""
        self._lock = threading.Lock()
        self._warn_from = 0.0
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection. Raises OSError after a pause if there is no descriptor for it."""
        try:
            connection, client = super().get_request()
        except OSError as error:
            if time.monotonic() >= self._warn_from:
                logger.warning("can't accept HTTP connections", extra={"reason": error.strerror or str(error)})
                self._warn_from = time.monotonic() + _WARN_EVERY_S
            self._close_oldest(keep=0)
            time.sleep(_NO_DESCRIPTOR_S)
            raise
        with self._lock:
            self._opened[connection] = time.monotonic()
        self._close_oldest(keep=MAX_CONNECTIONS)
        return connection, client

    def close_late(self) -> float | None:
        """Closes the oldest connection if it lasts too long; returns the seconds until the next look, None if none is open."""
        now = time.monotonic()
        self._close_oldest(keep=0, accepted_before=now - CONNECTION_S)
        with self._lock:
            accepted = next(iter(self._opened.values()), None)
        return None if accepted is None else max(0.0, accepted + CONNECTION_S - now)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._opened.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Logs what ended a connection, most often the client or the limit of time."""
        logger.debug("an HTTP connection failed", extra={"client": client_address[0]}, exc_info=True)

    def _close_oldest(self, *, keep: int, accepted_before: float = math.inf) -> None:
        """Closes the oldest connection if more than ``keep`` are open. Its thread notices, and frees the descriptor."""
        with self._lock:
            if len(self._opened) <= keep:
                return
            oldest, accepted = next(iter(self._opened.items()))
            if accepted >= accepted_before:
                return
            del self._opened[oldest]
            with contextlib.suppress(OSError):  # closed by the other side
                oldest.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        self._errors = io.StringIO()

    def finish(self) -> None:
        """Logs a failure in the application, which wsgiref would print."""
        super().finish()
        if trace := self._errors.getvalue():
            logger.debug("an HTTP request failed", extra={"client": self.client_address[0], "trace": trace})

    def get_stderr(self) -> io.StringIO:
        """Returns where wsgiref prints tracebacks."""
        return self._errors

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class's)
        logger.debug("HTTP request", extra={"client": self.client_address[0], "request": format % args})


class HttpEndpoint:
    """Serves /metrics, /healthz and /livez in a thread until closed.

    Args:
        address: HOST:PORT to listen on; port 0 means any free one.
        registry: The metrics.
        health: Called in other threads, for each request of /healthz.
        alive: The same for /livez: whether a restart wouldn't help. None: as long as the endpoint answers.

    Raises:
        OSError: The address can't be bound.
        ValueError: The address isn't HOST:PORT.
    """

    def __init__(self, address: str, registry: CollectorRegistry, health: Health, alive: Health | None = None) -> None:
        host, port = split_host_port(address)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # unneeded gauges of creation times
        self._metrics = make_wsgi_app(registry)
        self._verdicts = {"/healthz": health, "/livez": alive or (lambda: (True, {}))}
        self._server = _Server(host, port)
        self._server.set_app(self._app)
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT with the actual port."""
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stops serving and frees the port."""
        if self._thread.is_alive():
            self._stop_writer.send(b"!")  # a forked process may have it open too, so to close it wouldn't be noticed
            self._thread.join()
        self._stop_writer.close()
        self._stop_reader.close()
        self._server.server_close()

    def _serve(self) -> None:
        # serve_forever of the library would wake every so often to see whether to end, also in an idle process.
        with selectors.PollSelector() as selector:  # which takes no descriptor
            selector.register(self._stop_reader, selectors.EVENT_READ)
            selector.register(self._server, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(self._server.close_late())}
                if self._stop_reader in ready:
                    return
                if self._server in ready:
                    self._server.handle_request()

    def _app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        if path in self._verdicts:
            healthy, details = self._verdicts[path]()
            status = "200 OK" if healthy else "503 Service Unavailable"
            start_response(status, [("Content-Type", "application/json")])
            return [json.dumps({"healthy": healthy, **details}).encode() + b"\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics, /healthz or /livez\n"]
