"""A server for followers."""

from collections.abc import AsyncIterator

import pytest
from support.redis.following import Script, serving


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[Script, int]]:
    """A scripted server and its port."""
    script = Script()
    async with serving(script) as port:
        yield script, port
