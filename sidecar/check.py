"""The command fps-sidecar --check: reads all limits in Redis once and reports the fields that don't set one."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from redis.exceptions import RedisError

from handcounter.pacing.schedule import stream_name_error
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from sidecar.connections.servers import AnyConnection, RedisServers
from sidecar.limits.values import WILDCARD_FIELD, parse_fps, show

FINE: Final = 0
FAILED: Final = 1

ANSWER_S: Final = 5.0
"""How long Redis may take to answer a command."""

_FIELDS_PER_CALL: Final = 1000


async def check(url: RedisUrl, access: RedisAccess, config_key: str, default_fps: float) -> int:
    """Prints each field of the hash that sets no limit, and a summary.

    Args:
        url: The address of Redis.
        access: What a connection needs besides the URL.
        config_key: The key of the hash.
        default_fps: The fps of streams without a limit in the hash.

    Returns:
        The exit code: 0, or 1 if Redis can't be read or a field is invalid.
    """
    invalid: dict[bytes, str] = {}
    fields: set[bytes] = set()  # HSCAN may return a field twice
    wildcard: float | None = None
    try:
        connection = await RedisServers(url, access).connect_to(config_key)
        try:
            async for field, value in _fields(connection, config_key):
                fields.add(field)
                if error := field_error(field, value):
                    invalid[field] = error
                elif field.decode() == WILDCARD_FIELD:
                    wildcard = parse_fps(value)
        finally:
            await connection.disconnect(nowait=True)
    except (RedisError, OSError, TimeoutError) as error:
        sys.stderr.write(f"fps-sidecar: can't read {config_key} at {url.shown}: {str(error) or type(error).__name__}\n")
        return FAILED
    for _, line in sorted(invalid.items()):
        sys.stdout.write(f"{line}\n")
    others = f"--fps {default_fps:g}" if wildcard is None else f"{wildcard:g} ({WILDCARD_FIELD})"
    sys.stdout.write(
        f"{config_key} at {url.shown}: {len(fields)} fields, {len(invalid)} invalid; all other streams: {others}\n"
    )
    return FAILED if invalid else FINE


def field_error(field: bytes, value: bytes) -> str | None:
    """Returns what is wrong with one field of the hash, or None if it sets a limit."""
    try:
        name_error = stream_name_error(field.decode())
    except UnicodeDecodeError:
        name_error = "stream_name must be UTF-8"
    if name_error:
        return f"no stream can have the name {show(field)!r}: {name_error}"
    if parse_fps(value) is None:
        return f"{show(field)!r}: {show(value)!r} isn't a valid fps, so it is ignored"
    return None


async def _fields(connection: AnyConnection, config_key: str) -> AsyncIterator[tuple[bytes, bytes]]:
    cursor: Any = "0"
    while True:
        async with asyncio.timeout(ANSWER_S):
            await connection.send_command("HSCAN", config_key, cursor, "COUNT", _FIELDS_PER_CALL)
            cursor, pairs = await connection.read_response()
        for index in range(0, len(pairs), 2):
            yield pairs[index], pairs[index + 1]
        if cursor == b"0":
            return
