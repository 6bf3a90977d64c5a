"""The application: the page's files, what is read for it, and the login."""

import json
import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qs

import redis
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from console.control import documents
from console.control.lint import lint
from console.control.states import State
from console.web.access.guard import Access, Guard
from console.web.access.identity import NOBODY, key_of
from console.web.access.sessions import COOKIE, LASTS_S
from console.web.changes import Changes, RefusedError
from console.web.explain import explain
from console.web.feed.feed import Feed
from console.web.feed.messages import to_json
from console.web.feed.pictures import Pictures, Shown
from console.web.feed.viewers import TooManyViewersError
from console.web.page_files import PageFiles
from process.version import version

MOST_LOGIN_BYTES: Final = 4096
MOST_CHANGE_BYTES: Final = 4_000_000
"""An import of a hundred thousand limits."""
MOST_FINDINGS: Final = 200
AUDIT_SHOWN: Final = 100
_PROBLEMS: Final = {
    "wrong": '<p class="problem" role="alert">This token is wrong.</p>',
    "wait": '<p class="problem" role="alert">Too many attempts: wait a minute.</p>',
}


def application(feed: Feed, changes: Changes, access: Access, registry: CollectorRegistry, shown: Shown) -> Starlette:
    """Returns the application; the feed runs while it serves."""
    console = _Console(feed, changes, access, registry, shown)
    routes = [
        Route("/", console.page),
        Route("/login", console.login_page, methods=["GET"]),
        Route("/login", console.login, methods=["POST"]),
        Route("/logout", console.logout, methods=["POST"]),
        Route("/api/session", console.session),
        Route("/api/events", console.events),
        Route("/api/picture", console.picture),
        Route("/api/history", console.history),
        Route("/api/camera", console.camera),
        Route("/api/limits", console.limits),
        Route("/api/audit", console.audit),
        Route("/api/export", console.export),
        Route("/api/changes", console.change, methods=["POST"]),
        Route("/healthz", console.health),
        Route("/livez", console.alive),
        Route("/metrics", console.metrics),
        Route("/static/{name}", console.file),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, access=access)])


class _Console:
    """The answers."""

    def __init__(self, feed: Feed, changes: Changes, access: Access, registry: CollectorRegistry, shown: Shown) -> None:
        self._feed = feed
        self._changes = changes
        self._access = access
        self._registry = registry
        self._shown = shown
        self._files = PageFiles()
        self._pictures = Pictures(feed.source.picture, time.monotonic)

    async def page(self, request: Request) -> Response:
        return self._files.answer(request, "index.html")

    async def file(self, request: Request) -> Response:
        return self._files.answer(request, request.path_params["name"])

    async def login_page(self, request: Request) -> Response:
        """Returns the form, with what was wrong with the last attempt."""
        if self._access.tokens is None:
            return RedirectResponse("/", 303)
        problem = next((text for word, text in _PROBLEMS.items() if word in request.query_params), "")
        page = self._files.text("login.html").replace("<!-- problem -->", problem)
        return Response(page, media_type="text/html")

    async def login(self, request: Request) -> Response:
        """Opens a session for a token, and sends the browser to the page."""
        access = self._access
        if access.tokens is None:
            return RedirectResponse("/", 303)
        # Who tries too often by themselves doesn't use up the attempts of all.
        if access.logins.wait_s(request.state.client) or access.all_logins.wait_s(""):
            return RedirectResponse("/login?wait", 303)
        form = parse_qs(((await _body(request, MOST_LOGIN_BYTES)) or b"").decode(errors="replace"))
        token = form.get("token", [""])[0].strip()
        identity = access.tokens.identity(token)
        if identity is NOBODY:
            return RedirectResponse("/login?wrong", 303)
        response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        response.set_cookie(
            COOKIE,
            access.sessions.open(identity, key_of(token)),
            int(LASTS_S),
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return response

    async def logout(self, request: Request) -> Response:
        """Ends the session."""
        self._access.sessions.close(request.state.session)
        response = JSONResponse({})
        response.delete_cookie(COOKIE)
        return response

    async def session(self, request: Request) -> Response:
        """Returns who asks and what they may do."""
        identity, access = request.state.identity, self._access
        return JSONResponse(
            {
                "name": identity.name,
                "role": identity.role.name.lower(),
                "changes": access.allow_changes,
                "can_log_out": access.tokens is not None,
                "room": self._feed.viewers.has_room,
                "token": access.sessions.request_token(request.state.session, identity.name),
                "version": version(),
            }
        )

    async def events(self, request: Request) -> Response:
        """Sends everything, and then every change, as long as the session lasts."""
        access = self._access
        messages = self._feed.viewers.messages()
        try:
            first = await anext(messages)
        except TooManyViewersError:
            return JSONResponse({"error": "too many pages are open: see --max-viewers"}, 503)

        async def all_messages() -> AsyncIterator[bytes]:
            try:
                yield first
                async for message in messages:
                    if not access.lasts(request.state.session):
                        return
                    yield message
            finally:
                await messages.aclose()  # type: ignore[attr-defined]

        headers = {"x-accel-buffering": "no", "cache-control": "no-store"}
        return StreamingResponse(all_messages(), media_type="text/event-stream", headers=headers)

    async def picture(self, request: Request) -> Response:
        """Returns the last annotated picture of a stream; 204 if there is none, or it isn't to be shown."""
        name = request.query_params.get("name", "")
        row = self._feed.board.row(name)
        if row is None or not self._shown(name):
            return Response(status_code=204)
        try:
            picture = await self._pictures.picture(name, float(str(row["counted_at"])))
        except (redis.RedisError, OSError):
            return Response(status_code=503)
        if picture is None or not picture.startswith(b"\xff\xd8"):
            return Response(status_code=204)
        return Response(picture, media_type="image/jpeg")

    async def history(self, request: Request) -> Response:
        """Returns the last hour of a stream."""
        return _json(self._feed.history.of(request.query_params.get("name", "")))

    async def camera(self, request: Request) -> Response:
        """Returns all that is known about one stream, with its last result and an explanation."""
        name = request.query_params.get("name", "")
        row = self._feed.board.row(name)
        if row is None:
            return _json({"error": "there is no such stream"}, 404)
        try:
            fields, camera = await self._feed.source.camera(name)
        except (redis.RedisError, OSError, UnicodeEncodeError):
            fields, camera = {}, {}
        asked = await self._feed.sidecars.would_process(name)
        result = _result(fields.pop("result", ""))
        return _json(
            {
                "row": row,
                "fields": fields,
                "camera": camera,
                "result": result,
                "decision": asked,
                "explanation": explain(row, asked, self._feed.limits.field(name), self._feed.now()),
            }
        )

    async def limits(self, _request: Request) -> Response:
        """Returns all fields, patterns and boosts as they stand in Redis, and what may be wrong with them."""
        feed = self._feed
        snapshot, demands = feed.limits.snapshot, feed.demands()
        known = [str(row["name"]) for row in feed.board.rows() if row["state"] != State.UNSEEN]
        # As for a change, see Demands: only the cameras that deliver count, and only capacity that was seen.
        sources = dict(demands.sources)
        findings = lint(
            snapshot, feed.now(), streams=known, sources=sources, capacity=demands.most, default=demands.default
        )
        return _json(
            {
                "version": feed.limits.version,
                "limits": snapshot.limits,
                "patterns": snapshot.patterns,
                "boosts": snapshot.boosts,
                # What lint says after a semicolon about fpsctl is for its users; here there are buttons.
                "findings": [
                    {**each._asdict(), "message": each.message.partition("; fpsctl")[0].partition(": fpsctl")[0]}
                    for each in findings[:MOST_FINDINGS]
                ],
                "findings_left_out": max(0, len(findings) - MOST_FINDINGS),
            }
        )

    async def audit(self, _request: Request) -> Response:
        """Returns the newest changes."""
        try:
            return _json(await self._changes.audit(AUDIT_SHOWN))
        except RefusedError as error:
            return _json({"error": str(error)}, 503)

    async def export(self, request: Request) -> Response:
        """Returns all limits as a document."""
        form = "csv" if request.query_params.get("format") == "csv" else "yaml"
        write = documents.to_csv if form == "csv" else documents.to_yaml
        text = write(self._feed.limits.snapshot).encode(errors="surrogateescape")
        headers = {"content-disposition": f'attachment; filename="limits.{form}"'}
        return Response(text, media_type=f"text/{form}", headers=headers)

    async def change(self, request: Request) -> Response:
        """Makes a change of limits; the guard has let it pass."""
        identity = request.state.identity
        try:
            body = await _body(request, MOST_CHANGE_BYTES)
            if body is None:
                return _json({"error": f"a request has at most {MOST_CHANGE_BYTES / 1e6:g} MB"}, 413)
            asked = json.loads(body)
            if not isinstance(asked, dict):
                raise RefusedError("expected an object")
            if asked.get("action") == "undo":
                asked["by"] = identity.name
            done = await self._changes.make(asked, identity.name, self._feed.demands())
        except (ValueError, RecursionError):
            return _json({"error": "expected JSON"}, 400)
        except RefusedError as error:
            self._feed.load.changes.labels("warned" if error.warning else "refused").inc()
            return _json({"error": str(error), "warning": error.warning}, 409)
        self._feed.load.changes.labels("tried" if asked.get("dry_run") else "made").inc()
        return _json(done)

    async def health(self, _request: Request) -> Response:
        """Returns whether Redis can be read; without it the page shows what it knows."""
        problem = self._feed.redis_problem
        return JSONResponse({"healthy": not problem, "redis": problem or "ok"}, 503 if problem else 200)

    async def alive(self, _request: Request) -> Response:
        """Returns that the console answers."""
        return JSONResponse({"healthy": True})

    async def metrics(self, _request: Request) -> Response:
        """Returns the console's own load on Redis and the sidecars, among others, for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


async def _body(request: Request, most: int) -> bytes | None:
    """Returns the body of a request; None if it has more bytes than that."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def _json(value: object, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")


def _result(text: str) -> object:
    """Returns a result as JSON; None if it is none, or has numbers that JSON lacks."""
    try:
        return json.loads(text, parse_constant=lambda _name: None) if text else None
    except ValueError:
        return None
