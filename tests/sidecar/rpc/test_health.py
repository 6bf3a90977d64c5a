"""The health service, without a server."""

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from support.waiting import until

from sidecar.rpc import health as health_module
from sidecar.rpc.health import REDIS, SERVER, Health

Status = health_pb2.HealthCheckResponse


class AbortedError(Exception):
    """What abort raises."""


async def abort(code: grpc.StatusCode, message: str) -> None:
    """Ends a call as gRPC does."""
    raise AbortedError(code, message)


async def status(health: Health, component: str) -> int:
    """Returns the answer of Check."""
    context: Any = SimpleNamespace(abort=abort)
    return (await health.Check(health_pb2.HealthCheckRequest(service=component), context)).status


async def test_nothing_serves_at_first() -> None:
    """A probe that comes before the server listens gets NOT_SERVING."""
    health = Health()
    assert [await status(health, component) for component in (SERVER, REDIS)] == [Status.NOT_SERVING] * 2


@pytest.mark.parametrize("component", [SERVER, REDIS])
async def test_components_are_independent(component: str) -> None:
    """The status of one component doesn't change the other's; a shutdown ends both."""
    health = Health()
    health.set(component, True)
    other = REDIS if component == SERVER else SERVER
    assert (await status(health, component), await status(health, other)) == (Status.SERVING, Status.NOT_SERVING)
    health.set(other, True)
    health.shut_down()
    assert [await status(health, each) for each in (SERVER, REDIS)] == [Status.NOT_SERVING] * 2


async def test_the_reason_is_metadata() -> None:
    """What is wrong with a component comes with its status, as the printable ASCII that metadata allows."""
    health = Health()
    metadata: list[tuple[tuple[str, str], ...]] = []
    context: Any = SimpleNamespace(abort=abort, set_trailing_metadata=metadata.append)
    for serving, reason in ((False, "NOPERM café\n(ask)"), (True, "")):
        health.set(REDIS, serving, reason)
        await health.Check(health_pb2.HealthCheckRequest(service=REDIS), context)
    assert metadata == [(("reason", "NOPERM caf\\xe9 (ask)"),)]


async def test_an_unknown_component_is_not_found() -> None:
    """The error names the component."""
    with pytest.raises(AbortedError, match=r"NOT_FOUND.*unknown component 'disk'"):
        await status(Health(), "disk")


async def test_a_watcher_gets_each_change_once_until_the_shutdown() -> None:
    """A watcher gets the status at once, then only changes of its component; its call ends at the shutdown."""
    health, received = Health(), []

    async def write(response: health_pb2.HealthCheckResponse) -> None:
        received.append(response.status)

    context: Any = SimpleNamespace(write=write)
    watching = asyncio.create_task(health.Watch(health_pb2.HealthCheckRequest(service=REDIS), context))
    await until(lambda: received == [Status.NOT_SERVING], "the first status")
    health.set(SERVER, True)
    health.set(REDIS, True)
    await until(lambda: len(received) == 2, "the change")
    health.shut_down()
    await watching
    assert received == [Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING]


async def test_an_unknown_component_can_be_watched() -> None:
    """As the standard says, its status is SERVICE_UNKNOWN."""
    health, received = Health(), []

    async def write(response: health_pb2.HealthCheckResponse) -> None:
        received.append(response.status)
        health.shut_down()

    context: Any = SimpleNamespace(write=write)
    await health.Watch(health_pb2.HealthCheckRequest(service="disk"), context)
    assert received == [Status.SERVICE_UNKNOWN]


async def test_a_shutdown_during_a_write_is_sent_too() -> None:
    """The last status that a watcher gets is NOT_SERVING, even if the shutdown begins while another one is written."""
    health, received = Health(), []
    health.set(SERVER, True)

    async def write(response: health_pb2.HealthCheckResponse) -> None:
        received.append(response.status)
        health.shut_down()

    context: Any = SimpleNamespace(write=write)
    await health.Watch(health_pb2.HealthCheckRequest(), context)
    assert received == [Status.SERVING, Status.NOT_SERVING]


async def test_watchers_are_bounded_and_make_room_when_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the bound gets RESOURCE_EXHAUSTED, until a watcher leaves."""
    monkeypatch.setattr(health_module, "MAX_WATCHERS", 1)
    health, written = Health(), asyncio.Event()

    async def write(_: health_pb2.HealthCheckResponse) -> None:
        written.set()

    context: Any = SimpleNamespace(write=write, abort=abort)
    watching = asyncio.create_task(health.Watch(health_pb2.HealthCheckRequest(), context))
    await written.wait()
    with pytest.raises(AbortedError, match=r"RESOURCE_EXHAUSTED.*at most 1 calls may watch"):
        await health.Watch(health_pb2.HealthCheckRequest(), context)
    watching.cancel()
    await asyncio.wait((watching,))
    health.shut_down()
    await health.Watch(health_pb2.HealthCheckRequest(), context)
