"""What a user's SOURCE means, and the name by which logs and errors may mention it.

A camera's URL often holds a password, and not only where passwords belong: some cameras take it in the path or in the
query, and a password with an unescaped / # or ? moves the parts of the URL. So the text itself is never repeated. Logs and
errors have the name: of a URL the scheme, host and port, and only if the whole URL could be understood.
"""

from __future__ import annotations

import enum
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from worker.publish.plain_file import read_plain_file
from worker.synthetic.spec import PREFIX, parse_synthetic

_MOST_BYTES = 64 * 1024
"""Of the file of a URL or a password."""

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp")
LAST_WEBCAM = 99
"""A larger number is more likely a mistake."""
PASSWORD = "{PASSWORD}"
"""Stands for the password in a URL; its characters are escaped when it is filled in."""

_DEVICES = ("/dev/video", "/dev/v4l/")

_LISTENING = ("srt", "udp")
"""The schemes of URLs that may lack a host: a port of this machine."""

_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]*:[0-9a-f:.]*(%[\w.-]+)?", re.IGNORECASE)
_MAY_HOLD_SECRETS = re.compile(r"[@?&=;]|//|^[a-z][a-z0-9+.-]*:/|^(rtsps?|rtmps?|https?):", re.IGNORECASE)
_ESCAPE = "escape @ / # ? % in the user and the password (as %40 %2F %23 %3F %25), and @ elsewhere"


class Kind(enum.Enum):
    """The kinds of sources."""

    SYNTHETIC = enum.auto()
    WEBCAM = enum.auto()
    CAMERA_URL = enum.auto()
    HTTP_URL = enum.auto()
    """A camera or a film; its answer shows which."""
    FILM = enum.auto()
    FOLDER = enum.auto()


@dataclass(frozen=True, slots=True)
class SourceName:
    """A parsed SOURCE."""

    kind: Kind
    name: str
    """For logs and errors; without secrets."""
    opens: str = field(repr=False)
    """What opens it: a path, a webcam's index, a URL with its secrets, or a specification."""


def parse_source(source: str, password: str | None = None) -> SourceName:
    """Returns what a user's SOURCE means; a file may still be missing.

    Args:
        source: the user's text.
        password: replaces {PASSWORD} in a URL, escaped.

    Raises:
        ValueError: it can't be any source; the text doesn't repeat it.
    """
    if not source:
        raise ValueError("expected a file, a folder, a webcam's index, a URL or synthetic:")
    if source.startswith(PREFIX) or source == PREFIX.rstrip(":"):
        parse_synthetic(source)
        return SourceName(Kind.SYNTHETIC, source, source)
    if source.isascii() and source.isdigit():
        if len(source) > 2:
            raise ValueError(f"expected a webcam's index, 0 to {LAST_WEBCAM}")
        return SourceName(Kind.WEBCAM, f"webcam {int(source)}", source)
    scheme, colons, _ = source.partition("://")
    if colons:
        return _url(scheme.lower(), source, password)
    if source.startswith(_DEVICES) or _is_char_device(source):
        return SourceName(Kind.WEBCAM, source, source)
    kind = Kind.FOLDER if os.path.isdir(source) else Kind.FILM  # noqa: PTH112 - Path raises where a folder may not be entered
    return SourceName(kind, _file_name(source), source)


def _url(scheme: str, source: str, password: str | None) -> SourceName:
    if scheme not in SCHEMES:
        raise ValueError(f"expected a URL that begins with {', '.join(f'{each}://' for each in SCHEMES)}")
    if PASSWORD in source:
        if password is None:
            raise ValueError(f"{PASSWORD} needs --source-password-file")
        source = source.replace(PASSWORD, quote(password, safe=""))
    if not source.isprintable() or " " in source:
        raise ValueError("expected a URL without blanks and control characters; escape a blank as %20")
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text repeats parts of the URL
        host, port = None, None
    if not host and port and scheme in _LISTENING and parts.netloc.rpartition("@")[0] == "":
        return SourceName(Kind.CAMERA_URL, f"{scheme}://:{port}", scheme + source[len(scheme) :])
    if not host or port == 0 or not _HOST.fullmatch(host) or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"expected a URL with a host, as in rtsp://user:password@camera.local/stream; {_ESCAPE}")
    shown = f"[{host}]" if ":" in host else host
    name = f"{scheme}://{shown}{f':{port}' if port else ''}{'/…' if parts.path.strip('/') or parts.query else ''}"
    kind = Kind.HTTP_URL if scheme in ("http", "https") else Kind.CAMERA_URL
    return SourceName(kind, name, scheme + source[len(scheme) :])


def _file_name(path: str) -> str:
    """Returns the path, unless there is no such file and the text could be a mistyped URL."""
    if _MAY_HOLD_SECRETS.search(path) and not os.path.exists(path):  # noqa: PTH110 - as above
        return "a file whose name isn't shown, because it could be a mistyped URL with a password"
    return path


def _is_char_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def read_secret(path: Path, again: bool = False) -> str:
    """Returns a file's text without blanks and line breaks at its ends.

    Args:
        path: the file; or a pipe, if it isn't read again.
        again: whether it is read again and again, by a thread that mustn't wait.

    Raises:
        OSError: it can't be read.
        ValueError: it isn't text, or isn't short.
    """
    if again:
        content = read_plain_file(path, _MOST_BYTES + 1)
    else:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("it is too long")
    return content.decode("utf-8-sig").strip()
