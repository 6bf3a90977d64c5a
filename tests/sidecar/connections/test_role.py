"""Which servers are read from, by their roles."""

from typing import Any

import pytest

from sidecar.connections.errors import RejectedError, ReplicaError, UnreachableError
from sidecar.connections.role import Role, RoleCheck, role_in

MASTER = [b"master", 7, []]
IN_STEP = [b"slave", b"10.0.0.1", 6379, b"connected", 7]
CUT_OFF = [b"slave", b"10.0.0.1", 6379, b"connect", -1]
HELLO_2 = [b"server", b"redis", b"version", b"7.2.0", b"role", b"replica", b"modules", []]

ROLES: list[tuple[Any, Role]] = [
    (MASTER, Role.MASTER),
    (IN_STEP, Role.REPLICA),
    (CUT_OFF, Role.CUT_OFF),
    ([b"slave", b"h", 1, b"connecting", -1], Role.CUT_OFF),
    ([b"slave", b"h", 1, b"sync", -1], Role.CUT_OFF),
    ([b"sentinel", [b"main"]], Role.UNKNOWN),
    (HELLO_2, Role.REPLICA),
    ([b"server", b"redis", b"role", b"master"], Role.MASTER),
    ({b"role": b"master"}, Role.MASTER),
    ({b"role": b"replica"}, Role.REPLICA),
    ({b"role": b"slave"}, Role.REPLICA),
    ({b"role": b"arbiter"}, Role.UNKNOWN),
    ({}, Role.UNKNOWN),
    ([], Role.UNKNOWN),
    ([b"slave"], Role.UNKNOWN),
    (b"OK", Role.UNKNOWN),
    (None, Role.UNKNOWN),
]


@pytest.mark.parametrize(("answer", "role"), ROLES)
def test_role_in_an_answer(answer: Any, role: Role) -> None:
    """Answers to ROLE and to HELLO, and what proxies may say instead."""
    assert role_in(answer) is role


class Server:
    """Answers commands as a test sets it, and notes them."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def call(self, command: str) -> Any:
        """Returns or raises the answer to a command."""
        self.asked.append(command)
        answer = self.answers.get(command, b"PONG")
        if isinstance(answer, Exception):
            raise answer
        return answer


NO_PERMISSION = RejectedError("NOPERM", "NOPERM no permissions")
UNKNOWN_COMMAND = RejectedError("ERR", "ERR unknown command")


async def test_a_master_that_becomes_a_replica_is_left() -> None:
    """Its address may lead to another server by now; a new connection to the same server is used."""
    server = Server(ROLE=MASTER)
    role = RoleCheck(server.call)
    await role.check()
    server.answers["ROLE"] = IN_STEP
    with pytest.raises(ReplicaError, match="was the master"):
        await role.check()
    again = RoleCheck(server.call)
    for _ in range(2):
        await again.check()


async def test_a_replica_that_lost_its_master_is_not_read_from() -> None:
    """However often it is connected to, until it is in step again."""
    server = Server(ROLE=CUT_OFF)
    for _ in range(2):
        with pytest.raises(ReplicaError, match="isn't in step"):
            await RoleCheck(server.call).check()
    server.answers["ROLE"] = IN_STEP
    role = RoleCheck(server.call)
    await role.check()
    server.answers["ROLE"] = CUT_OFF
    with pytest.raises(ReplicaError, match="isn't in step"):
        await role.check()


@pytest.mark.parametrize("refusal", [NO_PERMISSION, UNKNOWN_COMMAND])
async def test_without_role_hello_says_it(refusal: RejectedError) -> None:
    """HELLO needs no permission of its own, and still shows that a master became a replica."""
    server = Server(ROLE=refusal, HELLO={b"role": b"master"})
    role = RoleCheck(server.call)
    await role.check()
    assert not role.may_ask
    server.answers["HELLO"] = HELLO_2
    with pytest.raises(ReplicaError):
        await role.check()
    assert server.asked == ["ROLE", "HELLO", "HELLO"]


async def test_a_proxy_that_knows_no_roles_is_pinged() -> None:
    """What was rejected once isn't asked again, nor by the next connection that is told so."""
    server = Server(ROLE=UNKNOWN_COMMAND, HELLO=UNKNOWN_COMMAND)
    role = RoleCheck(server.call)
    for _ in range(2):
        await role.check()
    await RoleCheck(server.call, may_ask=role.may_ask).check()
    assert server.asked == ["ROLE", "HELLO", "PING", "PING", "PING"]


@pytest.mark.parametrize("error", [RejectedError("LOADING", "LOADING"), UnreachableError("lost")])
async def test_other_errors_are_the_callers(error: Exception) -> None:
    """They say nothing about the role, which is asked for again."""
    role = RoleCheck(Server(ROLE=error).call)
    with pytest.raises(type(error)):
        await role.check()
    assert role.may_ask


async def test_a_check_that_is_not_due_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy connection is asked once a second."""
    monkeypatch.setattr("sidecar.connections.role.time.monotonic", lambda: clock[0])
    clock, server = [100.0], Server(ROLE=MASTER)
    role = RoleCheck(server.call)
    await role.check()
    for clock[0] in (100.5, 100.9, 101.0, 101.5):
        await role.check_if_due()
    assert server.asked == ["ROLE", "ROLE"]
