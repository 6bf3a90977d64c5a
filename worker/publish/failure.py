"""Why a source can't be opened or has ended, and what to try. No text repeats more of a URL than its host and port."""

from __future__ import annotations

import errno
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

from av.error import EOFError as EndOfFileError
from av.error import (
    ExitError,
    HTTPForbiddenError,
    HTTPNotFoundError,
    HTTPOtherClientError,
    HTTPServerError,
    HTTPTooManyRequestsError,
    HTTPUnauthorizedError,
    InvalidDataError,
    ProtocolNotFoundError,
)

PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
"""The protocols on TCP with their usual ports."""

_ANSWERS = {
    HTTPForbiddenError: "forbids the access (403); check what this user may see",
    HTTPNotFoundError: "has nothing at this path (404); check the path in the camera's manual",
    HTTPTooManyRequestsError: "gets too many requests (429); ask less often with --source-fps",
    HTTPOtherClientError: "doesn't accept the request (status 4xx); check the path and the camera's settings",
    HTTPServerError: "has an error (status 5xx), or too many viewers; try again later, or restart it",
}

_NOT_A_VIDEO = "it can't be read as a video: the format isn't supported, or it is damaged or empty"


def unresolved(url: str) -> str | None:
    """Returns why a URL's host has no address, None if it has one. FFmpeg doesn't tell."""
    host = urlsplit(url).hostname
    if not host:
        return None
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            return f"the name {host} can't be looked up now; check this machine's network and its DNS server"
        return f"the host {host} is unknown; check its name, or use its IP address"
    except (OSError, UnicodeError):
        return f"the host {host} is unknown; check its name, or use its IP address"
    return None


def why_not_opened(error: BaseException, opens: str, timeout: float) -> str:
    """Returns a sentence for an error of opening.

    Args:
        error: what av.open raised.
        opens: the path or URL, which may hold a password.
        timeout: seconds after which FFmpeg gave up; where its error says nothing, each further question takes as long.
    """
    if "://" not in opens:
        return _why_not_file(error)
    parts = urlsplit(opens)
    if isinstance(error, ProtocolNotFoundError):
        return f"the installed FFmpeg can't receive {parts.scheme}://; have a gateway turn it into RTSP"
    if parts.scheme in ("udp", "srt"):
        return f"nothing arrives within {timeout:g} s; check that the sender sends to this address and port"
    return _why_not_connected(error, parts, timeout) or _ask(parts, timeout)


def why_no_webcam(error: BaseException, device: str) -> str:
    """Returns a sentence for an error of opening a camera of this machine."""
    if isinstance(error, FileNotFoundError):
        return f"this machine has no {device}; `ls /dev/video* /dev/v4l/by-id` lists its cameras"
    if isinstance(error, PermissionError):
        return f"permission denied for {device}; the user who runs this has to be in its group, which is usually video"
    if getattr(error, "errno", None) == errno.EBUSY:
        return f"another program uses {device}"
    if getattr(error, "errno", None) in (errno.ENOTTY, errno.ENODEV, errno.EINVAL):
        return (
            f"{device} isn't a camera that captures pictures; a camera often has several devices, so try the next one"
        )
    return _system_text(error)


def why_ended(error: BaseException | None, timeout: float) -> str:
    """Returns a sentence for the error, if any, that ended a source in progress."""
    if error is None or isinstance(error, EndOfFileError):
        return "it sends no more frames"
    if _is_timeout(error):
        return f"nothing has arrived for {timeout:g} s"
    if isinstance(error, InvalidDataError):
        return "what arrives is damaged"
    return f"it sends no more frames: {_system_text(error)}"


def undecodable(codec: str) -> str:
    """Returns a sentence for a source without any frame that can be decoded."""
    return f"no frame can be decoded as {codec}: the data is damaged or encrypted, or its codec is another one"


NO_DECODER = "there is no decoder for its codec; have the camera send H.264, H.265 or motion JPEG"
"""For a video whose codec FFmpeg doesn't know."""


def no_video(kinds: list[str]) -> str:
    """Returns a sentence for a source with other kinds of streams than video."""
    found = f"only {' and '.join(sorted(set(kinds)))}" if kinds else "nothing at all"
    return f"there is no video in it, {found}; check the path, or the profile in the camera's settings"


def _why_not_file(error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; the user who runs this needs the right to read it"
    if isinstance(error, InvalidDataError | EndOfFileError):
        return _NOT_A_VIDEO
    return _system_text(error)


def _why_not_connected(error: BaseException, parts: SplitResult, timeout: float) -> str | None:
    """Returns a sentence for an error that says enough, else None."""
    host, port = parts.hostname, parts.port or PORTS.get(parts.scheme, 0)
    if isinstance(error, HTTPUnauthorizedError):
        if parts.username is None:
            return "the camera asks for a password (401); write it into the URL, as in rtsp://user:{PASSWORD}@host/path"
        return "the camera refuses the user or the password (401); check both, and escape @ / # ? % in them"
    for kind, answer in _ANSWERS.items():
        if isinstance(error, kind):
            return f"the camera {answer}"
    if isinstance(error, ConnectionRefusedError):
        return f"{host} refuses connections to port {port}; check the port, and that the camera's {parts.scheme} is on"
    if _is_timeout(error):
        return f"{host} doesn't answer on port {port} within {timeout:g} s; check the address and the firewalls"
    if getattr(error, "errno", None) == errno.EPROTONOSUPPORT:
        return "the camera doesn't offer this transport; try the other one with --transport"
    return None


def _ask(parts: SplitResult, timeout: float) -> str:
    """Tries what may be wrong step by step, since FFmpeg's error was vague."""
    host, port = parts.hostname, parts.port or PORTS.get(parts.scheme, 0)
    try:
        with socket.create_connection((host, port), timeout) as connection:
            if parts.scheme in ("rtsps", "rtmps", "https"):
                _unverified().wrap_socket(connection, server_hostname=host).close()
                return "what it sends isn't a video that can be read"
            if not parts.scheme.startswith("rtsp"):
                return "what it sends isn't a video that can be read; check the path"
            return _answer_to_options(connection, f"{parts.scheme}://{host}:{port}/")
    except ssl.SSLError:
        return f"{host} doesn't speak TLS on port {port}; try {parts.scheme[:-1]}:// instead of {parts.scheme}://"
    except ConnectionRefusedError as error:
        return _why_not_connected(error, parts, timeout) or ""
    except TimeoutError:
        return f"{host} doesn't answer on port {port} within {timeout:g} s; check the address and the firewalls"
    except OSError as error:
        return f"{host}, port {port}: {_system_text(error)}"


def _answer_to_options(connection: socket.socket, url: str) -> str:
    connection.sendall(f"OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
    answer = connection.recv(64)
    if not answer:
        return "the camera closes the connection; it may have too many viewers"
    if not answer.startswith(b"RTSP/"):
        return "the answer isn't a camera's; check the port"
    return "what it sends isn't a video that can be read"


def _unverified() -> ssl.SSLContext:
    """Returns a context that verifies nothing, as FFmpeg does: cameras sign their certificates themselves."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, ExitError | TimeoutError)  # the first is PyAV's own time-out


def _system_text(error: BaseException) -> str:
    """Returns the system's text of an error, without the path or URL that FFmpeg's errors repeat."""
    text = getattr(error, "strerror", None)
    return text if isinstance(text, str) and text else type(error).__name__
