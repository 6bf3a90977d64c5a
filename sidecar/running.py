"""Asks a sidecar that runs on this machine which streams it has."""

from collections.abc import Sequence
from typing import Final

from process.probe import local_address

TIMEOUT_S: Final = 2.0
_PAGE: Final = 1000


def running_streams(listen: Sequence[str]) -> set[str] | None:
    """Returns the streams of the sidecar that listens on one of these addresses; None if none answers in plain text.

    Args:
        listen: HOST:PORT or unix:/path.
    """
    import grpc  # only for this question, which most commands don't ask

    from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
    from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

    for address in listen:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(local_address(address), options=options) as channel:
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            names: set[str] = set()
            token = ""
            try:
                while True:
                    request = pb.ListStreamsRequest(page_size=_PAGE, page_token=token)
                    page = stub.ListStreams(request, timeout=TIMEOUT_S)
                    names.update(stream.stream_name for stream in page.streams)
                    token = page.next_page_token
                    if not token:
                        return names
            except grpc.RpcError:
                continue
    return None
