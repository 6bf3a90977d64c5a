"""A real console, a process of its own on a free port."""

import contextlib
import http.client
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.processes import programs
from support.processes.ports import accepts, free_port
from support.waiting import wait_until


class ConsoleProcess:
    """A running ``python -m console.web``."""

    def __init__(self, process: programs.Process, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Returns the status and the body of an answer."""
        return self.ask("GET", path, headers=headers)[:2]

    def json(self, path: str) -> Any:
        """Returns the JSON at a path."""
        status, body = self.get(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Returns the status, the body and the headers of an answer; the names of headers in lower case."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}

    def send(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Asks for a change as the page does; returns the status and the JSON of the answer."""
        token = self.json("/api/session")["token"]
        sent = {"content-type": "application/json", "x-console-token": token, **(headers or {})}
        status, answer, _ = self.ask("POST", path, json.dumps(body).encode(), sent)
        return status, json.loads(answer)


@contextlib.contextmanager
def console_process(
    *flags: str,
    redis_url: str,
    sidecar: str = "127.0.0.1:1",
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Iterator[ConsoleProcess]:
    """Runs a console while the block runs, which begins when it answers; by default on a free port."""
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        log, port = Path(folder, "log"), port or free_port()
        given = ["--listen", f"127.0.0.1:{port}", "--redis-url", redis_url, "--sidecar", sidecar, *flags]
        with log.open("wb") as output:
            process = programs.start("console.web", *given, output=output, environment=environment, constants=constants)
        try:
            wait_until(lambda: accepts(port) or process.poll() is not None, "the console serves")
            assert process.poll() is None, log.read_text()
            yield ConsoleProcess(process, port, log)
        finally:
            programs.end(process)
