"""A client that keeps as many calls in progress as it can.

    python -m support.clients.busy_caller ADDRESS

It prints a line when the first was answered.
"""

import sys

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc


def main() -> None:
    """Calls until it is ended."""
    stub = rate_limit_pb2_grpc.RateLimitServiceStub(grpc.insecure_channel(sys.argv[1]))
    request = pb.ShouldProcessBatchRequest(stream_names=[f"theirs-{number}" for number in range(1000)])
    stub.ShouldProcessBatch(request)
    sys.stdout.write("calling\n")
    sys.stdout.flush()
    while True:
        for call in [stub.ShouldProcessBatch.future(request) for _ in range(20)]:
            call.result()


if __name__ == "__main__":
    main()
