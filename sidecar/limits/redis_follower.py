"""The follower of the limits, patterns and boosts in Redis: one connection, or on a cluster one for each of their keys."""

import functools
from collections.abc import Callable

from sidecar.connections.servers import RedisServers
from sidecar.limits.cluster_follower import ClusterFollower
from sidecar.limits.follower import FpsFollower
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.small_hashes import SmallHashes, boosts_hash, patterns_hash
from sidecar.limits.table import FpsTable


def redis_follower(
    table: FpsTable,
    servers: RedisServers,
    config_key: str,
    *,
    on_state: Callable[[RedisState], None],
    on_problem: Callable[[str], None],
    on_read: Callable[[], None],
) -> Follower:
    """Returns a follower; the arguments are those of :class:`FpsFollower`, with the key of the limits."""
    small = [patterns_hash(table, config_key), boosts_hash(table, config_key)]
    if not servers.clustered:
        hashes = SmallHashes(small, on_read)
        return FpsFollower(
            table,
            servers,
            config_key,
            small=hashes,
            on_state=on_state,
            on_problem=on_problem,
            on_read=on_read,
        )
    streams = functools.partial(FpsFollower, table, servers, config_key, on_read=on_read)
    others = [
        functools.partial(
            FpsFollower,
            table,
            servers,
            each.key,
            small=SmallHashes([each], on_read, alone=True),
            reads_streams=False,
            on_read=on_read,
        )
        for each in small
    ]
    return ClusterFollower(table, [streams, *others], on_state=on_state, on_problem=on_problem)
