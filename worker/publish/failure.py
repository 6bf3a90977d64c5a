"""Why a source can't be opened. FFmpeg's reason doesn't reach OpenCV's users, so what may be wrong is tried step by step."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_STATUS = {
    403: "the camera forbids the access (403)",
    404: "the camera has nothing at this path (404)",
    454: "the camera doesn't know the session (454)",
}
_NOT_A_VIDEO = "it can't be read as a video: the format or the codec isn't supported, or it is damaged"


def why_not_opened(address: str, timeout: float) -> str:
    """Returns a sentence without the address; takes up to `timeout` seconds for each step."""
    if "://" not in address:
        return _why_not_file(Path(address.removeprefix("file:")))
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"the host {host} is unknown"
    try:
        with socket.create_connection((host, port), timeout) as connection:
            return _ask(connection, parts, timeout)
    except ConnectionRefusedError:
        return f"{host} refuses connections to port {port}"
    except TimeoutError:
        return f"{host} doesn't answer on port {port}"
    except (OSError, ValueError) as error:
        return f"{host}, port {port}: {getattr(error, 'strerror', None) or type(error).__name__}"


def _why_not_file(path: Path) -> str:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        return error.strerror or str(error)
    return _NOT_A_VIDEO


def _ask(connection: socket.socket, parts: SplitResult, timeout: float) -> str:
    """Asks for the resource; returns what the status of the answer means."""
    if parts.scheme in ("rtsps", "https"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # FFmpeg doesn't verify either
        connection = context.wrap_socket(connection, server_hostname=parts.hostname)
    connection.settimeout(timeout)
    netloc = parts.netloc.rpartition("@")[2]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {path} HTTP/1.0", f"Host: {netloc}"]
    if parts.scheme.startswith("rtsp"):
        lines = [f"DESCRIBE {parts.scheme}://{netloc}{path} RTSP/1.0", "CSeq: 1", "Accept: application/sdp"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    words = connection.recv(4096).split(b"\r\n")[0].split()
    if len(words) < 2 or not words[1].isdigit():
        return "the answer isn't a camera's" if words else "the camera closes the connection"
    status = int(words[1])
    if status < 400:
        return _NOT_A_VIDEO
    if status == 401:
        given = parts.username is not None
        return "the camera refuses the user or the password (401)" if given else "the camera asks for a password (401)"
    return _STATUS.get(status, f"the camera answers with status {status}")
