"""The standard health service, grpc.health.v1, for the components of the sidecar.

grpcio's own servicer keeps Watch calls open through a shutdown, so that the server waits for them until its grace
period is over. This one ends them with the news that it doesn't serve any more.
"""

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status = health_pb2.HealthCheckResponse

SERVER = ""
"""The component that is the server as a whole: serving while it takes calls, with or without Redis."""
REDIS = "redis"
"""The component that is serving while Redis is in reach."""

MAX_WATCHERS: Final = 64
"""As many as sessions; a call that watches lasts, and must not take the room of probes."""

_Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):
    """Tells which components serve. At first none does."""

    def __init__(self) -> None:
        self._serving = {SERVER: False, REDIS: False}
        self._shutting_down = False
        self._changed = asyncio.Event()
        self._watchers = 0

    def set(self, component: str, serving: bool) -> None:
        """Tells those who ask and those who watch."""
        self._serving[component] = serving
        self._announce()

    def shut_down(self) -> None:
        """Nothing serves from now on; watchers are told so, and then let go."""
        self._shutting_down = True
        self._announce()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> health_pb2.HealthCheckResponse:
        """Tells a component's status; NOT_FOUND for a component that there is not."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no component {request.service!r}")
        return Status(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> None:
        """Tells a component's status now and at each change; RESOURCE_EXHAUSTED where too many watch already."""
        if self._watchers >= MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {MAX_WATCHERS} calls may watch")
        self._watchers += 1
        try:
            await self._watch(request, context)
        finally:
            self._watchers -= 1

    async def _watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:
        told = None
        while True:
            # Both from before the write: what changes during it is told, too.
            changed, last = self._changed, self._shutting_down
            status = self._status(request.service)
            if status != told:
                await context.write(Status(status=status))
                told = status
            if last:
                return
            await changed.wait()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, component: str) -> int:
        if component not in self._serving:
            return Status.SERVICE_UNKNOWN
        return Status.SERVING if self._serving[component] and not self._shutting_down else Status.NOT_SERVING
