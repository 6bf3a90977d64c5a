"""Why a source can't be opened."""

import base64
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker.publish.failure import why_not_opened


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Serves one connection with this answer; yields the port and the requests."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                requests.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], requests
        thread.join()


@pytest.mark.parametrize(
    ("scheme", "login", "answer", "reason"),
    [
        ("http", "", b"HTTP/1.1 401 Unauthorized", "asks for a password"),
        ("http", "me:secret@", b"HTTP/1.1 401 Unauthorized", "refuses the user or the password"),
        ("rtsp", "me:se%2Fcret@", b"RTSP/1.0 401 Unauthorized", "refuses the user or the password"),
        ("rtsp", "", b"RTSP/1.0 404 Not Found", "nothing at this path"),
        ("http", "", b"HTTP/1.0 403 Forbidden", "forbids"),
        ("http", "", b"HTTP/1.0 503 Busy", "status 503"),
        ("rtsp", "", b"RTSP/1.0 200 OK", "codec isn't supported"),
        ("rtsp", "", b"SSH-2.0-OpenSSH_9.6", "isn't a camera's"),
        ("rtsp", "", b"", "closes the connection"),
    ],
)
def test_answers(scheme: str, login: str, answer: bytes, reason: str) -> None:
    """Each status has its own sentence, which repeats neither the password nor the path."""
    with answering(answer + b"\r\n\r\n" if answer else b"") as (port, requests):
        said = why_not_opened(f"{scheme}://{login}127.0.0.1:{port}/secret?token=secret", 5.0)
    assert reason in said
    assert "secret" not in said
    assert b"127.0.0.1" in requests[0]
    if "%2F" in login:
        assert base64.b64encode(b"me:se/cret") in requests[0]


def test_hosts() -> None:
    """An unknown host, a refused connection and a silent host differ."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "127.0.0.1 doesn't answer" in why_not_opened(f"rtsp://127.0.0.1:{port}/x", 0.05)
    assert "refuses connections" in why_not_opened(f"rtsp://127.0.0.1:{port}/x", 5.0)
    assert why_not_opened("http://camera.invalid/x", 5.0) == "the host camera.invalid is unknown"


def test_files(tmp_path: Path) -> None:
    """A file that can be read isn't a video; else the system's reason is given."""
    (tmp_path / "film.mp4").write_bytes(b"no film")
    assert "isn't supported" in why_not_opened(f"file:{tmp_path}/film.mp4", 5.0)
    assert why_not_opened(f"file:{tmp_path}/other.mp4", 5.0) == "No such file or directory"
    if os.geteuid():
        (tmp_path / "film.mp4").chmod(0)
        assert why_not_opened(f"file:{tmp_path}/film.mp4", 5.0) == "Permission denied"
