"""Redis URLs: the meaning of each kind, and one clear sentence for each mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.redis_url import Address, Kind, RedisUrl, parse_redis_url

GOOD = {
    "redis://cache": RedisUrl(Kind.SERVER, (Address("cache", 6379),)),
    "redis://127.0.0.1:7000/3": RedisUrl(Kind.SERVER, (Address("127.0.0.1", 7000),), db=3),
    "redis://[::1]:7000/0": RedisUrl(Kind.SERVER, (Address("::1", 7000),)),
    "redis://:secret@cache": RedisUrl(Kind.SERVER, (Address("cache", 6379),), password="secret"),
    "rediss://fps:s%40cret%2F@cache/1": RedisUrl(
        Kind.SERVER, (Address("cache", 6379),), db=1, tls=True, username="fps", password="s@cret/"
    ),
    "unix:///run/redis.sock": RedisUrl(Kind.SERVER, (Address("/run/redis.sock", 0),)),
    "unix://fps:secret@/run/redis.sock?db=2": RedisUrl(
        Kind.SERVER, (Address("/run/redis.sock", 0),), db=2, username="fps", password="secret"
    ),
    "redis+sentinel://a,b:7000,[::1]:7001/main/4": RedisUrl(
        Kind.SENTINEL, (Address("a", 26379), Address("b", 7000), Address("::1", 7001)), db=4, service="main"
    ),
    "rediss+sentinel://fps:secret@a/main": RedisUrl(
        Kind.SENTINEL, (Address("a", 26379),), service="main", tls=True, username="fps", password="secret"
    ),
    "redis+cluster://a,b:7000": RedisUrl(Kind.CLUSTER, (Address("a", 6379), Address("b", 7000))),
    "rediss+cluster://a/0": RedisUrl(Kind.CLUSTER, (Address("a", 6379),), tls=True),
}

BAD = {
    "": "begins with",
    "localhost:6379": "begins with",
    "http://cache": "not a scheme",
    "redis+ring://cache": "not a scheme",
    "redis://": "empty host",
    "redis://a,b": "several hosts",
    "redis://cache:port": "1 to 65535",
    "redis://cache:0": "1 to 65535",
    "redis://cache:65536": "1 to 65535",
    "redis://::1:6379": "brackets",
    "redis://[::1": "brackets",
    "redis://cache/one": "must be a number",
    "redis://cache/1/2": "number of the database",
    "redis://cache/0?socket_timeout=3": "nothing after ?",
    "unix://run/redis.sock": "absolute path",
    "unix:///run/redis.sock?timeout=3": "db=N and nothing else",
    "redis+sentinel://a:26379": "needs the service",
    "redis+sentinel://a/main/0/1": "needs the service",
    "redis+cluster://a/1": "only database 0",
}


@pytest.mark.parametrize("url", GOOD)
def test_good_url(url):
    """Each kind of URL is parsed as documented."""
    assert parse_redis_url(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_bad_url(url):
    """An invalid URL gets one line with the mistake."""
    with pytest.raises(ValueError, match=BAD[url]) as raised:
        parse_redis_url(url)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("url", GOOD)
def test_shown_url_means_the_same(url):
    """The shown URL leads to the same place and contains no password."""
    parsed = parse_redis_url(url)
    assert "cret" not in parsed.shown
    assert "cret" not in repr(parsed)
    again = parse_redis_url(parsed.shown)
    assert again == RedisUrl(**{**vars(parsed), "password": "***" if parsed.password else ""})


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    """Any text after a scheme is a URL or a ValueError."""
    for scheme in ("redis://", "unix://", "redis+sentinel://", "rediss+cluster://", ""):
        try:
            parsed = parse_redis_url(scheme + text)
        except ValueError:
            continue
        assert parsed.addresses


def test_errors_do_not_show_the_password():
    """No mistake in a URL, including an unescaped password, shows the password in the message."""
    for login in ("u:s3cret", "u:s3cret/", "u:/s3cret", "s3cret:/", "u:s3cret#", "u:[s3cret", "u:?s3cret"):
        for url in ("redis://{}@cache/x", "redis://{}@cache:x", "redis://{}@/0", "unix://{}@run/x"):
            with pytest.raises(ValueError, match=r"Redis|redis://|unix") as raised:
                parse_redis_url(url.format(login))
            assert "s3cret" not in str(raised.value)


class TestCredentials:
    def test_complete_the_url(self):
        """User and password may come from outside of the URL."""
        url = parse_redis_url("redis://cache").with_credentials("fps", "secret")
        assert (url.username, url.password) == ("fps", "secret")
        assert parse_redis_url("redis://fps@cache").with_credentials("", "secret").username == "fps"

    @pytest.mark.parametrize(("username", "password"), [("other", ""), ("", "other")])
    def test_are_given_once(self, username, password):
        """What the URL already contains isn't overridden silently."""
        with pytest.raises(ValueError, match="once"):
            parse_redis_url("redis://fps:secret@cache").with_credentials(username, password)
