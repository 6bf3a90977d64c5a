"""Which server holds a key, and connections to it: for one server, Sentinels or a cluster."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from redis.crc import key_slot

from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Address, Kind, RedisUrl
from sidecar.connections.errors import RedisServerError, UnreachableError
from sidecar.connections.wire import Wire, open_wire

SLOT_COUNT: Final = 16384

LOCATE_TIMEOUT_S: Final = 1.0
"""How long a Sentinel or a node may take to name the servers, once it is connected to."""


class RedisServers:
    """The servers behind a URL.

    Where Sentinels or the nodes of a cluster name the server of each slot, their last answer is kept until
    :meth:`refresh` asks again. Callers do so when a server fails or names another one.
    """

    def __init__(self, url: RedisUrl, access: RedisAccess | None = None) -> None:
        self._url = url
        self._access = access or RedisAccess()
        self._options = connection_options(url, self._access)
        self._lock = asyncio.Lock()
        self._last_responder: Address | None = None
        single = url.kind is Kind.SERVER
        self._owners: list[Address | None] = [url.addresses[0] if single else None] * self._slot_count

    @property
    def url(self) -> RedisUrl:
        """The URL that leads to them."""
        return self._url

    @property
    def clustered(self) -> bool:
        """Whether keys are spread over several servers, so that one command reaches keys of one slot only."""
        return self._url.kind is Kind.CLUSTER

    @property
    def _slot_count(self) -> int:
        return SLOT_COUNT if self.clustered else 1

    def slot(self, key: bytes | str) -> int:
        """Returns the slot of a key; always 0 without a cluster."""
        return key_slot(key.encode() if isinstance(key, str) else key) if self.clustered else 0

    def address(self, slot: int) -> Address | None:
        """Returns the server that holds the slot by the last answer; None if that is unknown."""
        return self._owners[slot]

    def addresses(self) -> set[Address]:
        """Returns all servers that hold a slot by the last answer."""
        return {owner for owner in self._owners if owner}

    def record_owner(self, slot: int, address: Address) -> None:
        """Records that a server named another one as the owner of the slot."""
        self._owners[slot] = address

    async def refresh(self) -> None:
        """Asks which server holds each slot: each Sentinel or node in turn, the last responder first.

        Each has 3 s at most, so that one that hangs doesn't take the time of the next.

        Raises:
            RedisServerError: None of them answered.
        """
        if self._url.kind is Kind.SERVER:
            return
        async with self._lock:
            # The last responder comes first, so that one that hangs is waited for once, not each time.
            responders = [self._last_responder] if self._last_responder else []
            known = dict.fromkeys([*responders, *self._url.addresses])
            if self.clustered:
                # The nodes named in the URL may all be gone by now.
                known |= dict.fromkeys(sorted(self.addresses()))
            failures = []
            for address in known:
                try:
                    self._owners = await self._locate(address)
                except RedisServerError as error:
                    failures.append(f"{address}: {error}")
                else:
                    self._last_responder = address
                    return
            kind = "node of the cluster" if self.clustered else "Sentinel"
            raise UnreachableError(f"no {kind} answered: {'; '.join(failures)}")

    async def holder(self, key: bytes | str) -> Address:
        """Asks which server holds the key.

        Raises:
            RedisServerError: No Sentinel or node answered, or no node holds the key.
        """
        await self.refresh()
        address = self.address(self.slot(key))
        if address is None:
            raise UnreachableError("no node of the cluster holds the key")
        return address

    async def connect(
        self,
        address: Address,
        *,
        protocol: int = 2,
        on_push: Callable[[list[Any]], object] = lambda _push: None,
        on_lost: Callable[[], object] = lambda: None,
        fatal_code: str = "",
    ) -> Wire:
        """Connects to one server and logs in; the arguments and errors are those of ``open_wire``."""
        return await open_wire(
            address,
            self._options,
            tls=self._tls_options,
            protocol=protocol,
            on_push=on_push,
            on_lost=on_lost,
            fatal_code=fatal_code,
        )

    @property
    def _tls_options(self) -> dict[str, str] | None:
        return tls_options(self._access) if self._url.tls else None

    async def _locate(self, address: Address) -> list[Address | None]:
        """Asks one Sentinel or node for the owner of each slot."""
        if self.clustered:
            slots = await self._ask(address, self._options, "CLUSTER", "SLOTS")
            return _owners(address, slots)
        options: dict[str, Any] = {}
        if self._access.sentinel_password:
            options["username"] = self._access.sentinel_username or None
            options["password"] = self._access.sentinel_password
        master = await self._ask(address, options, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service)
        if not master:
            raise UnreachableError(f"it doesn't know the service {self._url.service!r}")
        return [Address(master[0].decode(), int(master[1]))]

    async def _ask(self, address: Address, options: dict[str, Any], *command: str) -> Any:
        wire = await open_wire(address, options, tls=self._tls_options)
        try:
            return await wire.call(*command, timeout_s=LOCATE_TIMEOUT_S)
        finally:
            await wire.close()


def _owners(asked: Address, slots: list[list[Any]]) -> list[Address | None]:
    """Reads the answer to CLUSTER SLOTS. A node that doesn't know its own host is the one that was asked."""
    owners: list[Address | None] = [None] * SLOT_COUNT
    for first, last, (host, port, *_), *_ in slots:
        owner = Address(host.decode() if host else asked.host, port)
        owners[first : last + 1] = [owner] * (last + 1 - first)
    return owners
