"""What is seen of each call from outside: how long a decision took, and a span where traces are wanted.

The service is wrapped method by method: interceptors of gRPC would cost every call more than the decision does.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc
from sidecar.metrics import Metrics

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]
Traced = Callable[[str, Handler], Handler]
"""Wraps the handler of a method so that its calls are spans."""

_DECISIONS: Final = frozenset({"ShouldProcess", "ShouldProcessBatch"})
_METHODS: Final = [method.name for method in rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].methods]


class ObservedService:
    """A service whose decisions are timed, and whose calls are traced if that is wanted; to be added to a server.

    A session is one call, and traced as such; its questions are timed where they are answered.
    """

    def __init__(
        self, service: rate_limit_pb2_grpc.RateLimitServiceServicer, metrics: Metrics, traced: Traced | None = None
    ) -> None:
        """Wraps the service."""
        for method in _METHODS:
            handler: Handler = getattr(service, method)
            if method in _DECISIONS:
                handler = _timed(handler, metrics.decision_seconds.labels(method).observe)
            if traced:
                handler = traced(method, handler)
            setattr(self, method, handler)


def _timed(handler: Handler, observe: Callable[[float], None]) -> Handler:
    """Times the calls that are answered; those that are refused or cancelled decide nothing."""

    async def timed(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        answer = await handler(request, context)
        observe(time.perf_counter() - started)
        return answer

    return timed
