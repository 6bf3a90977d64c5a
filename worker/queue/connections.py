"""Clients for the keys of the queue, be they on one server or spread over a cluster."""

import redis

from process.redis_access import RedisAccess
from process.redis_url import Kind, RedisUrl, parse_redis_url
from worker.queue.cluster import Nodes, SlotClient
from worker.queue.redis_client import connect


class Connections:
    """Where the queue is. For any thread.

    Args:
        url: of a server, of Sentinels or of a cluster's nodes.
        access: what connections need besides the URL.
    """

    def __init__(self, url: RedisUrl | str, access: RedisAccess | None = None) -> None:
        parsed = parse_redis_url(url) if isinstance(url, str) else url
        self._nodes = Nodes(parsed, access) if parsed.kind is Kind.CLUSTER else None
        self._server = None if self._nodes else connect(parsed, access)

    @property
    def clustered(self) -> bool:
        """Whether keys may be on different servers, of which one may be lost while the others work."""
        return self._nodes is not None

    def client(self, key: str) -> redis.Redis:
        """Returns a client for the keys in one key's slot, which sends each command at most once."""
        if self._nodes:
            return SlotClient(self._nodes, key)
        assert self._server is not None
        return self._server

    def close(self) -> None:
        """Closes all connections."""
        for each in (self._nodes, self._server):
            if each:
                each.close()
