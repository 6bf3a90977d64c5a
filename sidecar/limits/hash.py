"""A hash in Redis, read over one connection in the way that costs Redis least.

Redis keeps a hash of few fields as a list (hash-max-listpack-entries, 512 by default), which HMGET searches from its start
for each stream. For a thousand streams that takes milliseconds, in which Redis serves nobody else. HSCAN returns such a
list whole in its first step, in a fraction of the time, but only a few fields of a real table. So a reading of all streams
begins with HSCAN. If that returned the whole hash, there is nothing else to read; if not, HMGET reads the streams, because
the whole table would be too much for the event loop. One command both distinguishes the two and reads, so nothing can
change in between.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sidecar.connections.errors import RejectedError

logger = logging.getLogger(__name__)

Call = Callable[..., Awaitable[Any]]
"""Sends a command and returns its answer; raises the errors of PushConnection.call."""

_FIRST_STEP: Final = ("0", "COUNT", "1")
"""Redis rounds up: to the whole of a list, and to a bucket of a table."""


_PAGE_FIELDS: Final = 1000


class NotAHashError(Exception):
    """The key holds a value of another type."""


class FpsHash:
    """One hash in Redis.

    Args:
        call: Sends the commands.
        key: The key of the hash.
        on_read: Is called at each command.
        may_scan: False if HSCAN was rejected before, so that it isn't tried.
    """

    def __init__(self, call: Call, key: str, on_read: Callable[[], None], *, may_scan: bool = True) -> None:
        self.may_scan = may_scan
        """Whether HSCAN wasn't rejected so far."""
        self._call = call
        self._key = key
        self._on_read = on_read

    async def read_whole(self) -> Mapping[str, bytes] | None:
        """Returns all fields, if the hash is so small that Redis keeps it as a list and the user may scan it; else None.

        Raises:
            NotAHashError: The key holds a value of another type.
        """
        if not self.may_scan:
            return None
        try:
            cursor, flat = await self._ask("HSCAN", *_FIRST_STEP)
        except RejectedError as error:
            if error.code not in {"NOPERM", "ERR"}:
                raise
            logger.info("Redis rejected HSCAN, so the limits are read stream by stream", extra=error.fields())
            self.may_scan = False
            return None
        if cursor != b"0":
            return None
        # A field that isn't UTF-8 can't be a stream's name, and must not become one.
        return {
            field.decode(errors="surrogateescape"): value for field, value in zip(flat[::2], flat[1::2], strict=True)
        }

    async def read_all(self, most: int) -> dict[bytes, bytes]:
        """Returns all fields of a small hash, or of one that has more than ``most``, about that many of them.

        Raises:
            NotAHashError: The key holds a value of another type.
        """
        fields: dict[bytes, bytes] = {}
        cursor = b"0"
        while True:
            cursor, flat = await self._ask("HSCAN", cursor.decode(), "COUNT", str(_PAGE_FIELDS))
            fields.update(zip(flat[::2], flat[1::2], strict=True))
            if cursor == b"0" or len(fields) > most:
                return fields

    async def read_fields(self, names: list[str]) -> list[bytes | None]:
        """Returns the values of some fields; None for each that doesn't exist.

        Raises:
            NotAHashError: The key holds a value of another type.
        """
        values: list[bytes | None] = await self._ask("HMGET", *names)
        return values

    async def _ask(self, command: str, *arguments: str) -> Any:
        self._on_read()
        try:
            return await self._call(command, self._key, *arguments)
        except RejectedError as error:
            if error.code == "WRONGTYPE":
                raise NotAHashError from error
            raise
