import pytest

from console.web.feed.redis_client import RedisServer
from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://r:1/0",
        "rediss://r:1/0",
        "unix:///run/r.sock",
        "redis+sentinel://s:1/main",
        "rediss+sentinel://s:1/main",
    ],
)
async def test_a_client_of_each_kind_of_address(url: str):
    """It connects at its first command, and never more than a few times at once."""
    client = RedisServer(parse_redis_url(url), RedisAccess()).client()
    assert client.connection_pool.max_connections == 4
    await client.aclose()


def test_a_cluster_is_refused():
    with pytest.raises(ValueError, match="cluster"):
        RedisServer(parse_redis_url("redis+cluster://a:1,b:2"), RedisAccess())
