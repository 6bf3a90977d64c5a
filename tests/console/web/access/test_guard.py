"""The guard, with an application that answers everything."""

import ipaddress
from collections.abc import Sequence

import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from console.web.access.guard import Access, Guard
from console.web.access.identity import Identity, Proxy, Role, Tokens, key_of
from console.web.access.sessions import COOKIE

HOST = {"host": "127.0.0.1:9470"}
JSON = {"content-type": "application/json", "origin": "http://127.0.0.1:9470", **HOST}


def _access(**changes: object) -> Access:
    given = {"allow_changes": True, "hosts": frozenset({"127.0.0.1"}), "tokens": None, "proxy": None}
    return Access(**{**given, **changes}, clock=lambda: 0.0)  # type: ignore[arg-type]


async def _ask(
    access: Access,
    method: str,
    path: str,
    headers: dict[str, str],
    client: str = "127.0.0.1",
    more: Sequence[tuple[str, str]] = (),
) -> tuple[int, dict[str, str]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("passed", 200)(scope, receive, send)

    answers = []
    raw = [(name.encode(), value.encode()) for name, value in [*headers.items(), *more]]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": (client, 1), "query_string": b""}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    await Guard(app, access)(scope, receive, send)  # type: ignore[arg-type]
    return answers[0]["status"], {name.decode(): value.decode() for name, value in answers[0]["headers"]}  # type: ignore[index]


def _changing(access: Access, session: str = "", name: str = "local") -> dict[str, str]:
    return {**JSON, "x-console-token": access.sessions.request_token(session, name)}


async def test_every_answer_forbids_other_sources_and_inline_code():
    for path in ("/", "/nowhere"):
        _, headers = await _ask(_access(), "GET", path, HOST)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9470", ""])
async def test_another_name_for_this_machine_is_refused(host: str):
    """A page elsewhere that lets its own name resolve to 127.0.0.1 can't read the console."""
    assert (await _ask(_access(), "GET", "/api/limits", {"host": host}))[0] == 421


async def test_probes_may_use_any_name():
    access = _access(tokens=Tokens(lambda: ("o" * 20,), lambda: ()))
    for path in ("/healthz", "/livez", "/metrics"):
        assert (await _ask(access, "GET", path, {"host": "10.0.0.9:9470"}))[0] == 200
    assert (await _ask(access, "POST", "/metrics", {"host": "10.0.0.9:9470"}))[0] == 421


async def test_a_change_by_the_page():
    access = _access()
    assert (await _ask(access, "POST", "/api/limit", _changing(access)))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-console-token": ""}, 403),
        ({"x-console-token": "0" * 64}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_a_change_by_another_page_is_refused(headers: dict[str, str], status: int):
    access = _access()
    assert (await _ask(access, "POST", "/api/limit", {**_changing(access), **headers}))[0] == status


async def test_without_allow_changes_nothing_can_be_changed():
    access = _access(allow_changes=False)
    assert access.identity({}, "", "").role is Role.VIEWER  # type: ignore[arg-type]
    assert (await _ask(access, "POST", "/api/limit", _changing(access)))[0] == 403


async def test_viewers_change_nothing():
    access = _access(tokens=Tokens(lambda: ("o" * 20,), lambda: ("v" * 20,)))
    for name, role, status in (("viewer", Role.VIEWER, 403), ("operator", Role.OPERATOR, 200)):
        session = access.sessions.open(Identity(name, role), key_of(name[0] * 20))
        headers = {**_changing(access, session, name), "cookie": f"{COOKIE}={session}"}
        assert (await _ask(access, "POST", "/api/limit", headers))[0] == status
        assert (await _ask(access, "GET", "/api/limits", headers))[0] == 200


async def test_a_session_ends_with_its_token():
    """While one token replaces another both may hold; a session opened by one that is gone is nobody's."""
    tokens = ["o" * 20]
    access = _access(tokens=Tokens(lambda: tuple(tokens), lambda: ("v" * 20,)))
    old = access.sessions.open(Identity("operator", Role.OPERATOR), key_of("o" * 20))
    viewer = access.sessions.open(Identity("viewer", Role.VIEWER), key_of("v" * 20))
    tokens.append("n" * 20)
    assert access.lasts(old)
    tokens.remove("o" * 20)
    cookie = {**HOST, "cookie": f"{COOKIE}={old}"}
    assert (await _ask(access, "GET", "/api/limits", cookie))[0] == 401
    assert not access.lasts(old)
    tokens.append("o" * 20)
    assert not access.lasts(old), "it doesn't come back"
    assert access.lasts(viewer)
    assert not access.lasts("")
    assert _access().lasts("")


async def test_without_a_session_the_page_leads_to_the_login():
    access = _access(tokens=Tokens(lambda: ("o" * 20,), lambda: ()))
    status, headers = await _ask(access, "GET", "/", HOST)
    assert (status, headers["location"]) == (303, "/login")
    for path in ("/api/session", "/api/events", "/api/picture", "/static/main.js"):
        assert (await _ask(access, "GET", path, HOST))[0] == 401
    for path in ("/login", "/static/theme.css"):
        assert (await _ask(access, "GET", path, HOST))[0] == 200


async def test_headers_of_somebody_who_isnt_the_proxy_are_ignored():
    proxy = Proxy("X-User", "X-Groups", frozenset({"ops"}), (ipaddress.ip_network("10.0.0.7"),))
    access = _access(proxy=proxy)
    headers = {**HOST, "x-user": "ada", "x-groups": "ops"}
    assert (await _ask(access, "GET", "/", headers, "10.0.0.8"))[0] == 401
    assert (await _ask(access, "GET", "/", headers, "10.0.0.7"))[0] == 200
    for name in ("x-user", "x-groups"):
        assert (await _ask(access, "GET", "/", headers, "10.0.0.7", [(name, "eve")]))[0] == 401, "twice"


async def test_without_a_proxy_its_headers_say_nothing():
    """Whoever sends them: the role is that of the session, or of this machine."""
    headers = {**HOST, "x-forwarded-user": "eve", "x-forwarded-groups": "ops", "x-forwarded-email": "eve@example.org"}
    tokens = _access(tokens=Tokens(lambda: ("o" * 20,), lambda: ()))
    assert (await _ask(tokens, "GET", "/api/limits", headers))[0] == 401
    assert _access().identity(Headers(headers), "127.0.0.1", "") == Identity("local", Role.OPERATOR)


async def test_changes_are_bounded():
    access = _access()
    statuses = [(await _ask(access, "POST", "/api/limit", _changing(access)))[0] for _ in range(21)]
    assert statuses == [200] * 20 + [429]


async def test_other_methods_are_refused():
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert (await _ask(_access(), method, "/api/limit", HOST))[0] == 405
