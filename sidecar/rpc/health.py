"""The standard health service, grpc.health.v1, for the components of the sidecar.

grpcio's own servicer keeps Watch calls open during a shutdown, so that the server waits for them until its grace period is
over. This one sends them NOT_SERVING and ends them.
"""

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status = health_pb2.HealthCheckResponse

SERVER: Final = ""
"""The component that is the server as a whole: serving while it accepts calls, with or without Redis."""
REDIS: Final = "redis"
"""The component that is serving while the limits in Redis can be read and, in fleet scope, Redis doesn't reject claims."""

REASON: Final = "reason"
"""The trailing metadata of Check that says why a component isn't serving and what to do about it."""

MAX_WATCHERS: Final = 64
"""As many as sessions. Watch calls last, and must leave room for probes."""

_Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):
    """Knows which components serve; at first none does."""

    def __init__(self) -> None:
        self._serving = {SERVER: False, REDIS: False}
        self._reasons = {SERVER: "", REDIS: ""}
        self._shutting_down = False
        self._changed = asyncio.Event()
        self._watchers = 0

    def set(self, component: str, serving: bool, reason: str = "") -> None:
        """Sets a component's status and sends it to watchers; the reason is a sentence for people."""
        self._serving[component] = serving
        self._reasons[component] = reason
        self._notify()

    def shut_down(self) -> None:
        """Makes all components NOT_SERVING for good, sends that to watchers and ends their calls."""
        self._shutting_down = True
        self._notify()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> health_pb2.HealthCheckResponse:
        """Returns a component's status, with the reason as metadata; NOT_FOUND if there is no such component."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown component {request.service!r}")
        if reason := self._reasons[request.service]:
            # Metadata is printable ASCII.
            shown = reason.encode("ascii", "backslashreplace").decode()
            context.set_trailing_metadata(((REASON, "".join(c if c.isprintable() else " " for c in shown)),))
        return Status(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> None:
        """Sends a component's status now and after each change; RESOURCE_EXHAUSTED if too many calls watch already."""
        if self._watchers >= MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {MAX_WATCHERS} calls may watch")
        self._watchers += 1
        try:
            await self._watch(request, context)
        finally:
            self._watchers -= 1

    async def _watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:
        sent = None
        while True:
            # Both are read before the write, so that a change during it isn't missed.
            changed, is_last = self._changed, self._shutting_down
            status = self._status(request.service)
            if status != sent:
                await context.write(Status(status=status))
                sent = status
            if is_last:
                return
            await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, component: str) -> int:
        if component not in self._serving:
            return Status.SERVICE_UNKNOWN
        return Status.SERVING if self._serving[component] and not self._shutting_down else Status.NOT_SERVING
