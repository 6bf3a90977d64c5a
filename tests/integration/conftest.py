"""A Valkey, and a sidecar that follows it."""

from collections.abc import Iterator

import grpc
import pytest
import redis
from support.clients.asker import DEFAULT, TRACKING, Asker
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, sidecar_process
from support.queue_fixtures import valkey, valkey_process  # noqa: F401 (fixtures)
from support.redis import valkey as servers
from support.redis.valkey import Valkey


@pytest.fixture
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with servers.valkey() as running:
        yield running


@pytest.fixture
def client(server: Valkey) -> Iterator["redis.Redis"]:
    """Returns a client of the Valkey, in the place of redis-cli."""
    with server.client() as connected:
        yield connected


@pytest.fixture
def asker(request: pytest.FixtureRequest, server: Valkey) -> Iterator[Asker]:
    """Returns a client of a sidecar with a default of 7 fps that follows the Valkey; the parameter is its constants."""
    constants = getattr(request, "param", LIMITS_ARE_WAITED_FOR)
    with (
        sidecar_process(redis_url=server.url, fps=DEFAULT, constants=constants) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        asker = Asker(sidecar, channel)
        asker.wait_for_state(TRACKING)
        yield asker
