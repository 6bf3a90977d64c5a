"""The files of the page, read once and kept in memory, as they are and, once a browser has asked, compressed."""

import functools
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

STATIC: Final = Path(__file__).parent / "static"
MODULES: Final = "<!-- modules -->"
"""Stands in index.html where all modules are named, so that the browser doesn't find them one import after the other."""


_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""By suffix. What :mod:`mimetypes` answers depends on the machine's own table, which it reads first."""


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    tag: str

    @functools.cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.content, mtime=0)


class PageFiles:
    """All files of a folder. Browsers ask each time whether one has changed, so a new version is seen at the next load."""

    def __init__(self, folder: Path = STATIC) -> None:
        modules = sorted(path.name for path in folder.glob("*.js"))
        links = "\n  ".join(f'<link rel="modulepreload" href="/static/{name}">' for name in modules)
        self._files: dict[str, _File] = {}
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            if path.suffix == ".html":
                content = content.replace(MODULES.encode(), links.encode())
            tag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'
            self._files[path.name] = _File(content, _MEDIA_TYPES.get(path.suffix, "application/octet-stream"), tag)

    def text(self, name: str) -> str:
        """Returns a file as text."""
        return self._files[name].content.decode()

    def answer(self, request: Request, name: str) -> Response:
        """Returns a file, 304 if the browser has it already, or 404."""
        file = self._files.get(name)
        if file is None:
            return Response("not found", 404, media_type="text/plain")
        headers = {"cache-control": "no-cache", "etag": file.tag, "vary": "accept-encoding"}
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(file.compressed, 200, headers, file.media_type)
        return Response(file.content, 200, headers, file.media_type)
