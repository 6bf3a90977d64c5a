"""A grpc.aio server with the sidecar's contract and an empty handler: shows the cost of gRPC itself. The benches start it.

python -m bench.empty_server HOST:PORT
"""

import asyncio
import sys
from typing import Any

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb


async def should_process(
    _request: pb.ShouldProcessRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
) -> pb.ShouldProcessResponse:
    """Returns an empty answer."""
    return pb.ShouldProcessResponse()


async def serve(address: str) -> None:
    """Serves until the process ends."""
    server = grpc.aio.server()
    # Registered in the same way as the generated code registers the sidecar's handlers.
    handlers = {
        "ShouldProcess": grpc.unary_unary_rpc_method_handler(
            should_process,
            request_deserializer=pb.ShouldProcessRequest.FromString,
            response_serializer=pb.ShouldProcessResponse.SerializeToString,
        )
    }
    service = rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
