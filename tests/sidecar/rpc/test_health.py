"""The health service, without a server."""

from types import SimpleNamespace

import pytest
from grpc_health.v1 import health_pb2

from sidecar.rpc.health import REDIS, SERVER, Health

Status = health_pb2.HealthCheckResponse


async def status(health: Health, component: str) -> int:
    """What Check answers; it needs no context for a component that there is."""
    return (await health.Check(health_pb2.HealthCheckRequest(service=component), None)).status


async def test_nothing_serves_until_it_is_said() -> None:
    """A probe that comes before the listeners are up learns that the server doesn't serve yet."""
    health = Health()
    assert [await status(health, component) for component in (SERVER, REDIS)] == [Status.NOT_SERVING] * 2


@pytest.mark.parametrize("component", [SERVER, REDIS])
async def test_components_are_independent(component: str) -> None:
    """Saying that one serves says nothing of the other; a shutdown ends both."""
    health = Health()
    health.set(component, True)
    other = REDIS if component == SERVER else SERVER
    assert (await status(health, component), await status(health, other)) == (Status.SERVING, Status.NOT_SERVING)
    health.set(other, True)
    health.shut_down()
    assert [await status(health, each) for each in (SERVER, REDIS)] == [Status.NOT_SERVING] * 2


async def test_a_shutdown_while_a_watcher_is_being_told_is_told_too() -> None:
    """What the watcher hears last is NOT_SERVING, also where the shutdown comes during the news before."""
    health, heard = Health(), []
    health.set("", True)

    async def write(response: health_pb2.HealthCheckResponse) -> None:
        heard.append(response.status)
        health.shut_down()

    await health.Watch(health_pb2.HealthCheckRequest(), SimpleNamespace(write=write))
    assert heard == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
