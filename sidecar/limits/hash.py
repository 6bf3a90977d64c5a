"""The hash of limits, read over one connection in the way that costs Redis least.

Redis keeps a hash of few fields as a list (hash-max-listpack-entries, 512 by default), which HMGET searches anew for
each stream: for a thousand streams that takes it milliseconds, in which it serves nobody. HSCAN gives such a list whole at its
first step, in a fraction of the time, and of a real table only a few fields. So a reading of all streams begins with
HSCAN: if that was the whole hash, it is all there is to read; if not, HMGET reads the streams from the table, of which
all would be too much for the event loop. One command both tells the two apart and reads, so nothing can change between.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sidecar.connections.push import RefusedError

logger = logging.getLogger(__name__)

Call = Callable[..., Awaitable[Any]]
"""Sends a command and gives the reply; raises as PushConnection.call does."""

_FIRST_STEP: Final = ("0", "COUNT", "1")
"""Redis rounds up to all of a list, and to a bucket of a table."""


class NoHashError(Exception):
    """The key holds something else."""


class FpsHash:
    """One hash in Redis.

    Args:
        call: sends its commands.
        key: of the hash.
        on_read: called at each command.
        may_scan: False: it was refused before, so it isn't asked for.
    """

    def __init__(self, call: Call, key: str, on_read: Callable[[], None], *, may_scan: bool = True) -> None:
        self.may_scan = may_scan
        """Whether HSCAN wasn't refused."""
        self._call = call
        self._key = key
        self._on_read = on_read

    async def whole(self) -> Mapping[str, bytes] | None:
        """All fields, if the hash is so small that Redis keeps it as a list and the user may scan it; else None.

        Raises NoHashError.
        """
        if not self.may_scan:
            return None
        try:
            cursor, flat = await self._ask("HSCAN", *_FIRST_STEP)
        except RefusedError as error:
            if error.code not in {"NOPERM", "ERR"}:
                raise
            logger.info("the limits are read stream by stream", extra={"reason": str(error)})
            self.may_scan = False
            return None
        if cursor != b"0":
            return None
        # A field that is no UTF-8 is no stream's name, and must not become one.
        return {
            field.decode(errors="surrogateescape"): value for field, value in zip(flat[::2], flat[1::2], strict=True)
        }

    async def fields(self, names: list[str]) -> list[bytes | None]:
        """The values of some fields; None for each that isn't there. Raises NoHashError."""
        values: list[bytes | None] = await self._ask("HMGET", *names)
        return values

    async def _ask(self, command: str, *arguments: str) -> Any:
        self._on_read()
        try:
            return await self._call(command, self._key, *arguments)
        except RefusedError as error:
            if error.code == "WRONGTYPE":
                raise NoHashError from error
            raise
