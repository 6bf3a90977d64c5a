"""Makes each call a span of a trace, if traces are on.

The service is wrapped method by method, because gRPC interceptors would cost each call more than its decision.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]
Traced = Callable[[str, Handler], Handler]
"""Takes a method's name and handler; returns a handler whose calls are spans."""

_METHODS: Final = [method.name for method in rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].methods]


class TracedService:
    """A service whose calls are spans. A session is one call and so one span."""

    def __init__(self, service: rate_limit_pb2_grpc.RateLimitServiceServicer, traced: Traced) -> None:
        """Wraps all methods of a service."""
        for method in _METHODS:
            setattr(self, method, traced(method, getattr(service, method)))
