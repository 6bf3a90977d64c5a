"""Results by HTTP: batches as JSON arrays, POSTed to one URL, signed if there is a key.

The signature is an HMAC of the time and the body, so that neither can be changed, and an old request can't be replayed:

    X-Hand-Counter-Timestamp: 1767225600
    X-Hand-Counter-Signature: sha256=<hex HMAC-SHA256 of "1767225600." + body>
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from worker.queue.delivery import Counted
from worker.sinks.sink import RejectedError, SinkError

TIMEOUT_S = 10.0

_REPEATED = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may succeed."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without a body, or go to a host that nobody has named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class HttpSink:
    """POSTs batches."""

    def __init__(
        self, url: str, key: bytes = b"", timeout: float = TIMEOUT_S, now: Callable[[], float] = time.time
    ) -> None:
        """Takes an http or https URL, which may hold user and password; and a key for signatures, empty for none."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        netloc = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
        self._url = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "hand-counter"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        self._key = key
        self._timeout = timeout
        self._now = now
        self._opener = urllib.request.build_opener(_NoRedirect)

    def write(self, results: Sequence[Counted]) -> None:
        """POSTs the results as one array of their JSON."""
        body = f"[{','.join(result.result for result in results)}]".encode()
        request = urllib.request.Request(self._url, body, {**self._headers, **self._signature(body)}, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as reply:
                reply.read(65_536)
        except urllib.error.HTTPError as error:
            error.close()
            refused = SinkError if error.code >= 500 or error.code in _REPEATED else RejectedError
            raise refused(f"the server answered {error.code}") from None
        except (http.client.InvalidURL, UnicodeError):  # their messages repeat the URL
            raise RejectedError("the URL can't be used") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SinkError(f"the server can't be reached: {getattr(reason, 'strerror', None) or reason}") from None

    def close(self) -> None:
        """Does nothing: each request has its own connection."""

    def _signature(self, body: bytes) -> dict[str, str]:
        if not self._key:
            return {}
        timestamp = str(int(self._now()))
        digest = hmac.new(self._key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {"X-Hand-Counter-Timestamp": timestamp, "X-Hand-Counter-Signature": f"sha256={digest}"}
