import ipaddress

import pytest

from console.web.access.identity import NOBODY, Identity, Proxy, Role, Tokens, host_of, key_of
from console.web.access.rate import MOST_KEYS, RateBound
from console.web.access.sessions import LASTS_S, MOST, Sessions

PROXY = Proxy("X-Forwarded-User", "X-Forwarded-Groups", frozenset({"operators"}), (ipaddress.ip_network("10.0.0.0/8"),))


@pytest.mark.parametrize(
    ("client", "headers", "identity"),
    [
        ("10.1.2.3", {"x-forwarded-user": "ada"}, Identity("ada", Role.VIEWER)),
        ("::ffff:10.1.2.3", {"x-forwarded-user": "ada"}, Identity("ada", Role.VIEWER)),
        (
            "10.1.2.3",
            {"x-forwarded-user": "ada", "x-forwarded-groups": "all, operators"},
            Identity("ada", Role.OPERATOR),
        ),
        ("10.1.2.3", {"x-forwarded-user": "ada", "x-forwarded-groups": ""}, Identity("ada", Role.VIEWER)),
        ("10.1.2.3", {"x-forwarded-groups": "operators"}, NOBODY),
        ("10.1.2.3", {"x-forwarded-user": "  "}, NOBODY),
        ("192.168.0.1", {"x-forwarded-user": "ada", "x-forwarded-groups": "operators"}, NOBODY),
        ("", {"x-forwarded-user": "ada"}, NOBODY),
        ("testclient", {"x-forwarded-user": "ada"}, NOBODY),
    ],
)
def test_a_proxy_says_who_asks(client: str, headers: dict[str, str], identity: Identity):
    assert PROXY.identity(headers, client) == identity


def test_a_group_without_a_name_makes_nobody_an_operator():
    proxy = Proxy("X-Forwarded-User", "X-Forwarded-Groups", frozenset(), PROXY.trusted)
    assert proxy.identity({"x-forwarded-user": "ada"}, "10.0.0.1").role is Role.VIEWER


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("o" * 20, Role.OPERATOR),
        ("v" * 20, Role.VIEWER),
        ("", Role.NOBODY),
        ("o" * 19, Role.NOBODY),
        ("é", Role.NOBODY),
    ],
)
def test_tokens(given: str, role: Role):
    assert Tokens(lambda: ("o" * 20,), lambda: ("v" * 20,)).identity(given).role is role


def test_without_a_token_for_viewers_an_empty_one_logs_nobody_in():
    assert Tokens(lambda: ("o" * 20,), lambda: ()).identity("") is NOBODY


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:9470", "localhost"),
        ("Console.Example", "console.example"),
        ("[::1]:9470", "::1"),
        ("http://127.0.0.1:9470", "127.0.0.1"),
        ("", ""),
    ],
)
def test_the_host_of_a_header(header: str, host: str):
    assert host_of(header) == host


def test_a_token_that_is_replaced_holds_no_longer():
    tokens = Tokens(lambda: ("new-" * 5, "old-" * 5), lambda: ("v" * 20,))
    assert tokens.identity("old-" * 5) == tokens.identity("new-" * 5) == Identity("operator", Role.OPERATOR)
    assert tokens.holds(Role.OPERATOR, key_of("old-" * 5))
    assert not tokens.holds(Role.VIEWER, key_of("old-" * 5))
    assert not tokens.holds(Role.OPERATOR, b"")


def test_a_session_ends():
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    session = sessions.open(Identity("operator", Role.OPERATOR))
    assert sessions.identity(session).name == "operator"
    assert sessions.identity("another") is NOBODY
    now[0] = LASTS_S + 1
    assert sessions.identity(session) is NOBODY


def test_a_request_token_is_of_one_session():
    sessions = Sessions(lambda: 0.0)
    token = sessions.request_token("s1", "operator")
    assert sessions.is_request_token(token, "s1", "operator")
    assert not sessions.is_request_token(token, "s2", "operator")
    assert not Sessions(lambda: 0.0).is_request_token(token, "s1", "operator")


def test_how_often_something_may_be_done():
    now = [0.0]
    bound = RateBound(3, 2.0, lambda: now[0])
    assert [bound.wait_s("ada") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bound.wait_s("bob") == 0.0
    now[0] = 0.5
    assert [bound.wait_s("ada"), bound.wait_s("ada")] == [0.0, 0.5]


def test_the_bounds_on_what_is_remembered():
    """The oldest session ends when there are too many, and the key that was used longest ago is forgotten."""
    sessions = Sessions(lambda: 0.0)
    first, *_, last = [sessions.open(Identity("viewer", Role.VIEWER)) for _ in range(MOST + 1)]
    assert (sessions.identity(first).name, sessions.identity(last).name) == ("", "viewer")
    sessions.close(last)
    assert sessions.identity(last) is NOBODY
    bound = RateBound(1, 1.0, lambda: 0.0)
    assert bound.wait_s("first") == 0.0
    assert bound.wait_s("first") > 0.0
    for i in range(MOST_KEYS):
        bound.wait_s(str(i))
    assert bound.wait_s("first") == 0.0
