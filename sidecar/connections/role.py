"""Whether the server behind a connection may still be read from.

After a failover the old master goes on answering on the connections that it has, as a replica. An address that follows
the master (a name in DNS, a Kubernetes Service, a proxy) leads to the new one only once a new connection is made. So a
reader asks each server for its role, and leaves

- a master that became a replica, once, because the address may lead to another server by now;
- a replica that isn't in step with its master, however often, because it knows no change since it lost it.

A replica in step with its master is as good as that one for reading, so an address of a replica may be used on purpose.
"""

import enum
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sidecar.connections.errors import REJECTED_BY_LIVING, RejectedError, ReplicaError

Call = Callable[..., Awaitable[Any]]
"""Sends a command and returns its answer; raises the errors of PushConnection.call."""

CHECK_EVERY_S: Final = 1.0

_NO_SUCH_COMMAND: Final = frozenset({"NOPERM", "ERR"})


class Role(enum.Enum):
    """What a server is to the others."""

    MASTER = "master"
    REPLICA = "replica"
    CUT_OFF = "replica that isn't in step with its master"
    UNKNOWN = "unknown"


class RoleCheck:
    """The role of the server behind one connection, as far as the server says it.

    ROLE says most. Without a permission for it, HELLO still says whether the server is a replica; a proxy may know neither.

    Args:
        call: Sends the commands.
        may_ask: False if ROLE was rejected before, so that only a ping is sent.
    """

    def __init__(self, call: Call, *, may_ask: bool = True) -> None:
        self.may_ask = may_ask
        """Whether no question about the role was rejected so far."""
        self._commands = ["ROLE", "HELLO"] if may_ask else []
        self._call = call
        self._role = Role.UNKNOWN
        self._checked_at = 0.0

    async def check_if_due(self) -> None:
        """Does the same as check(), unless that was less than a second ago."""
        if time.monotonic() - self._checked_at >= CHECK_EVERY_S:
            await self.check()

    async def check(self) -> None:
        """Asks for the role, or at least for a sign of life.

        Raises:
            ReplicaError: The server shouldn't be read from any more.
            RedisServerError: As for the call.
        """
        role = await self._ask()
        if role is Role.CUT_OFF:
            raise ReplicaError("the server is a replica that isn't in step with its master")
        if role is Role.REPLICA and self._role is Role.MASTER:
            raise ReplicaError("the server was the master and became a replica")
        self._role = role
        self._checked_at = time.monotonic()

    async def _ask(self) -> Role:
        while self._commands:
            try:
                return role_in(await self._call(self._commands[0]))
            except RejectedError as error:
                if error.code not in _NO_SUCH_COMMAND:
                    raise
                self.may_ask = False
                del self._commands[0]
        try:
            await self._call("PING")
        except RejectedError as error:
            if error.code not in REJECTED_BY_LIVING:
                raise
        return Role.UNKNOWN


def role_in(answer: Any) -> Role:
    """Returns the role in an answer to ROLE, or to HELLO in either version of the protocol."""
    match answer:
        case [b"master", *_]:
            return Role.MASTER
        case [b"slave", _, _, state, *_]:
            return Role.REPLICA if state == b"connected" else Role.CUT_OFF
        case list():
            return _ROLES_IN_HELLO.get(_value_after(b"role", answer), Role.UNKNOWN)
        case {b"role": bytes(role)}:
            return _ROLES_IN_HELLO.get(role, Role.UNKNOWN)
    return Role.UNKNOWN


_ROLES_IN_HELLO: Final = {b"master": Role.MASTER, b"replica": Role.REPLICA, b"slave": Role.REPLICA}


def _value_after(name: bytes, flat: list[Any]) -> bytes:
    """Returns the value of a name in a flat list of names and values; empty if it isn't there."""
    names = flat[::2]
    return flat[2 * names.index(name) + 1] if name in names else b""
