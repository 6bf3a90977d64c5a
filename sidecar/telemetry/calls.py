"""Calls as spans, where traces are wanted.

The service is wrapped method by method: interceptors of gRPC would cost every call more than the decision does.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2, rate_limit_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]
Traced = Callable[[str, Handler], Handler]
"""Wraps the handler of a method so that its calls are spans."""

_METHODS: Final = [method.name for method in rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].methods]


class TracedService:
    """A service whose calls are spans, to be added to a server. A session is one call, and traced as such."""

    def __init__(self, service: rate_limit_pb2_grpc.RateLimitServiceServicer, traced: Traced) -> None:
        """Wraps the service."""
        for method in _METHODS:
            setattr(self, method, traced(method, getattr(service, method)))
