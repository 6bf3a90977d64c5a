"""The HTTP endpoint of a process: /metrics for Prometheus, /healthz for probes and people."""

import json
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, disable_created_metrics, make_wsgi_app

from process.address import split_host_port

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

Health = Callable[[], tuple[bool, dict[str, object]]]
"""Returns whether the process can do its work, and details to show."""

_POLL_S = 0.1
"""How often the thread checks whether to end. The default of 0.5 s would be most of a program's shutdown."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class's)
        logger.debug("HTTP request", extra={"client": self.client_address[0], "request": format % args})


class HttpEndpoint:
    """Serves /metrics and /healthz in a thread until closed.

    Args:
        address: HOST:PORT to listen on; port 0 means any free one.
        registry: The metrics.
        health: Called in other threads, for each request of /healthz.

    Raises:
        OSError: The address can't be bound.
        ValueError: The address isn't HOST:PORT.
    """

    def __init__(self, address: str, registry: CollectorRegistry, health: Health) -> None:
        host, port = split_host_port(address)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # unneeded gauges of creation times
        self._metrics = make_wsgi_app(registry)
        self._health = health
        self._server = _Server(host, port)
        self._server.set_app(self._app)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_S}, name="http", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT with the actual port."""
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stops serving and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        if path == "/healthz":
            healthy, details = self._health()
            status = "200 OK" if healthy else "503 Service Unavailable"
            start_response(status, [("Content-Type", "application/json")])
            return [json.dumps({"healthy": healthy, **details}).encode() + b"\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics or /healthz\n"]
