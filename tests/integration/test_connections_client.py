"""The synchronous client of the other programs reaches every kind of Redis."""

import pytest
import redis_topologies
from redis_topologies import cluster, replicated, tls_server
from servers import valkey
from tls_files import Authority

from process.redis_client import RedisAccess, redis_client
from process.redis_url import parse_redis_url


def check(url: str, access: RedisAccess | None = None) -> None:
    """Writes and reads one key."""
    client = redis_client(parse_redis_url(url), access or RedisAccess(), socket_timeout=10)
    try:
        client.set("greeting", "hello")
        assert client.get("greeting") == b"hello"
    finally:
        client.close()


def test_server_socket_and_password(tmp_path):
    """One server by TCP and by its socket, with the password from the URL or from a file."""
    path, password = tmp_path / "redis.sock", tmp_path / "password"
    password.write_text("s@cret\n")
    with valkey("--requirepass", "s@cret", "--unixsocket", str(path)) as server:
        check(f"redis://:s%40cret@127.0.0.1:{server.port}/1")
        check(f"redis://127.0.0.1:{server.port}/1", RedisAccess(password_file=password))
        check(f"unix://:s%40cret@{path}?db=2")


def test_sentinel():
    """The master that the Sentinels name."""
    with replicated() as servers:
        check(servers.url)


def test_cluster():
    """Any node leads to all."""
    with cluster() as nodes:
        check(f"redis+cluster://127.0.0.1:{nodes.nodes[0].port}")


@pytest.mark.skipif(redis_topologies.tls_skip(), reason="needs Debian's redis-server")
def test_tls(tmp_path):
    """The server is checked, and is shown this client's certificate."""
    authority = Authority(tmp_path)
    server, client = authority.sign("server"), authority.sign("client")
    with tls_server(authority.certificate, server.certificate, server.key) as port:
        check(
            f"rediss://localhost:{port}/0",
            RedisAccess(ca=authority.certificate, certificate=client.certificate, key=client.key),
        )
