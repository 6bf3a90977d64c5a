"""Stands before every request: whom it is from, whether it may be answered, and what the answer tells the browser.

No request gets past it without a role, except for those of OPEN. A request that changes something needs the role operator,
`--allow-changes`, the page's own token, and an origin that is this console.
"""

import logging
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.web.access.identity import NOBODY, Identity, Proxy, Role, Tokens, host_of
from console.web.access.rate import RateBound
from console.web.access.sessions import COOKIE, Sessions

logger = logging.getLogger(__name__)

REQUEST_TOKEN: Final = "x-console-token"
OPEN: Final = frozenset({"/healthz", "/livez", "/metrics"})
"""For probes and Prometheus: no stream's name, picture or count is among them."""
LOGIN_PATHS: Final = frozenset({"/login", "/static/login.css", "/static/theme.css", "/static/icon.svg"})
LOGOUT_PATH: Final = "/logout"

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With no-referrer browsers would send "Origin: null" with the form of the login.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Access:
    """The rules; see docs/console.md."""

    def __init__(
        self,
        *,
        allow_changes: bool,
        hosts: frozenset[str],
        tokens: Tokens | None,
        proxy: Proxy | None,
        clock: Callable[[], float],
    ) -> None:
        """Takes what the settings say.

        Args:
            allow_changes: Whether limits may be changed here at all.
            hosts: By which names the console may be called; empty: any.
            tokens: The tokens that log in; None: without.
            proxy: The proxy that says who asks; None: without. With neither, everybody is an operator of this machine.
            clock: Monotonic, seconds.
        """
        self.allow_changes = allow_changes
        self.hosts = hosts
        self.tokens = tokens
        self.proxy = proxy
        self.sessions = Sessions(clock)
        self.logins = RateBound(5, 1 / 12, clock)
        self.all_logins = RateBound(50, 1.0, clock)
        self.changes = RateBound(20, 2.0, clock)

    def identity(self, headers: Headers, client: str, session: str) -> Identity:
        """Returns who asks."""
        if self.proxy is not None:
            # With two of them nobody knows which one the proxy wrote.
            doubled = any(len(headers.getlist(name)) > 1 for name in self.proxy.headers)
            found = NOBODY if doubled else self.proxy.identity(headers, client)
        elif self.tokens is not None:
            found = self._of_session(session, self.tokens)
        else:
            found = Identity("local", Role.OPERATOR)
        if found.role is Role.OPERATOR and not self.allow_changes:
            return Identity(found.name, Role.VIEWER)
        return found

    def lasts(self, session: str) -> bool:
        """Returns whether what was asked for in a session may still be answered."""
        return self.tokens is None or self._of_session(session, self.tokens) is not NOBODY

    def _of_session(self, session: str, tokens: Tokens) -> Identity:
        found = self.sessions.identity(session)
        if found is not NOBODY and not tokens.holds(found.role, self.sessions.key(session)):
            logger.info("a session ends, because its token doesn't log in any more", extra={"role": found.name})
            self.sessions.close(session)
            return NOBODY
        return found


class Guard:
    """The middleware."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what may not pass, and lets the application answer the rest."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no websockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Returns the answer to a request that may not pass; None if it may, with the identity in the scope's state."""
        access, path, method = self._access, scope["path"], scope["method"]
        headers = Headers(scope=scope)
        if path in OPEN and method in ("GET", "HEAD"):
            return None
        if access.hosts and host_of(headers.get("host", "")) not in access.hosts:
            return _refused(421, "this console isn't called by that name: see --allowed-host")
        client = scope["client"][0] if scope.get("client") else ""
        session = session_of(headers)
        identity = access.identity(headers, client, session)
        scope.setdefault("state", {}).update(identity=identity, session=session, client=client)
        if method not in ("GET", "HEAD", "POST"):
            return _refused(405, "only GET and POST")
        if method == "POST" and not _same_origin(headers):
            return _refused(403, "the request comes from another site")
        if path in LOGIN_PATHS and access.tokens is not None:
            return None
        if identity is NOBODY or identity.role is Role.NOBODY:
            if access.tokens is not None and method == "GET" and path == "/":
                return RedirectResponse("/login", 303)
            return _refused(401, "log in first" if access.tokens else "the proxy doesn't say who asks")
        if method == "POST":
            return self._refused_change(path, headers, identity, session)
        return None

    def _refused_change(self, path: str, headers: Headers, identity: Identity, session: str) -> Response | None:
        access = self._access
        if not access.sessions.is_request_token(headers.get(REQUEST_TOKEN, ""), session, identity.name):
            return _refused(403, "the page is older than this console: reload it")
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return _refused(415, "changes are sent as JSON")
        if path == LOGOUT_PATH:
            return None  # for everybody, and always
        if not access.allow_changes:
            return _refused(403, "this console is read-only: it was started without --allow-changes")
        if identity.role is not Role.OPERATOR:
            return _refused(403, "only operators may change limits")
        wait = access.changes.wait_s(identity.name)
        if wait:
            return _refused(429, f"too many changes: wait {wait:.0f} s", {"retry-after": str(int(wait) + 1)})
        return None


def session_of(headers: Headers) -> str:
    """Returns the session that a request names; empty if none."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _same_origin(headers: Headers) -> bool:
    """Returns whether a request comes from this console's own page. Browsers always send an origin with a POST."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.rpartition("://")[2].lower() == headers.get("host", "").lower()


def _refused(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status, headers)
