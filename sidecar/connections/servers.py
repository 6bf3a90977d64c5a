"""Which server holds a key, and connections to it: for one server, Sentinels or a cluster."""

import asyncio
import logging
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Address, Kind, RedisUrl

logger = logging.getLogger(__name__)

SLOT_COUNT = 16384

CONNECT_TIMEOUT_S = 1.0

AnyConnection = Connection | UnixDomainSocketConnection


class RedisServers:
    """The servers behind a URL.

    Where Sentinels or a cluster say which server holds what, their last answer is kept until :meth:`refresh` asks
    again; callers do so when a server they were led to fails or sends them elsewhere.
    """

    def __init__(self, url: RedisUrl, access: RedisAccess | None = None) -> None:
        self._url = url
        self._access = access or RedisAccess()
        self._lock = asyncio.Lock()
        self._told_by: Address | None = None
        single = url.kind is Kind.SERVER
        self._owners: list[Address | None] = [url.addresses[0] if single else None] * self._slot_count

    @property
    def url(self) -> RedisUrl:
        """Where they were found."""
        return self._url

    @property
    def clustered(self) -> bool:
        """Whether keys are spread over several servers, so that one command reaches keys of one slot only."""
        return self._url.kind is Kind.CLUSTER

    @property
    def _slot_count(self) -> int:
        return SLOT_COUNT if self.clustered else 1

    def slot(self, key: bytes | str) -> int:
        """The slot of a key; always 0 where there are no slots."""
        return key_slot(key.encode() if isinstance(key, str) else key) if self.clustered else 0

    def address(self, slot: int) -> Address | None:
        """The server that holds the slot by the last answer; None if that is unknown."""
        return self._owners[slot]

    def addresses(self) -> set[Address]:
        """All servers that hold something by the last answer."""
        return {owner for owner in self._owners if owner}

    def moved(self, slot: int, address: Address) -> None:
        """Takes note of a server's word that another one holds the slot."""
        self._owners[slot] = address

    async def refresh(self) -> None:
        """Asks which server holds what; raises RedisError if nobody can tell.

        Those who tell are asked one after the other, beginning with who told last; each has 3 s at most.
        """
        if self._url.kind is Kind.SERVER:
            return
        async with self._lock:
            # One that hangs is waited for once, not each time.
            told_by = [self._told_by] if self._told_by else []
            known = dict.fromkeys([*told_by, *self._url.addresses])
            if self.clustered:
                # The nodes named in the URL may all be gone by now.
                known |= dict.fromkeys(sorted(self.addresses()))
            errors = []
            for address in known:
                try:
                    self._owners = await self._ask(address)
                except (RedisError, OSError) as error:
                    errors.append(f"{address}: {error}")
                else:
                    self._told_by = address
                    return
            raise RedisConnectionError(f"nobody tells where Redis is: {'; '.join(errors)}")

    async def holder(self, key: bytes | str) -> Address:
        """Asks which server holds the key; raises RedisError if nobody can tell."""
        await self.refresh()
        address = self.address(self.slot(key))
        if address is None:
            raise RedisConnectionError("no server of the cluster holds the key")
        return address

    async def connect_to(self, key: bytes | str, **options: Any) -> AnyConnection:
        """Connects to the server that holds the key, after asking which it is; raises RedisError or OSError."""
        return await self.connect(await self.holder(key), **options)

    async def connect(self, address: Address, **options: Any) -> AnyConnection:
        """Connects to one server, and logs in; `options` are redis-py's. Raises RedisError or OSError."""
        options = connection_options(self._url, self._access) | options
        return await self._open(address, options)

    async def _open(self, address: Address, options: dict[str, Any]) -> AnyConnection:
        # One attempt, bounded: whoever connects has a policy of its own for failures. All time-outs are ours: redis-py
        # sends through asyncio.wait_for, which can swallow a cancellation in Python 3.11.
        options = {
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **options,
        }
        connection: AnyConnection
        if address.port == 0:
            connection = UnixDomainSocketConnection(path=address.host, **options)
        elif self._url.tls:
            connection = SSLConnection(host=address.host, port=address.port, **options, **tls_options(self._access))
        else:
            connection = Connection(host=address.host, port=address.port, **options)
        try:
            # redis-py's own time-out ends with the TCP handshake; a server may also stop answering after that.
            async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _ask(self, address: Address) -> list[Address | None]:
        if self._url.kind is Kind.CLUSTER:
            return _owners(address, await self._asked(address, {}, "CLUSTER", "SLOTS"))
        options: dict[str, Any] = {"db": 0, "username": None, "password": None, "credential_provider": None}
        if self._access.sentinel_password:
            options["username"] = self._access.sentinel_username or None
            options["password"] = self._access.sentinel_password
        reply = await self._asked(address, options, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service)
        if not reply:
            raise RedisConnectionError(f"doesn't know the service {self._url.service!r}")
        return [Address(reply[0].decode(), int(reply[1]))]

    async def _asked(self, address: Address, options: dict[str, Any], *command: str) -> Any:
        connection = await self.connect(address, **options)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.send_command(*command)
                return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def _owners(asked: Address, reply: list[list[Any]]) -> list[Address | None]:
    """Reads the reply to CLUSTER SLOTS; a node that doesn't know its own host is where we asked."""
    owners: list[Address | None] = [None] * SLOT_COUNT
    for first, last, (host, port, *_), *_ in reply:
        owner = Address(host.decode() if host else asked.host, port)
        owners[first : last + 1] = [owner] * (last + 1 - first)
    return owners
