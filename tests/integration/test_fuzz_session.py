"""A session that receives bytes that aren't a message."""

from collections.abc import Iterator

import grpc
import pytest
from support.processes.sidecars import SidecarProcess, sidecar_process

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

SESSION = "/handcounter.ratelimit.v1.RateLimitService/ShouldProcessSession"


@pytest.fixture(scope="module")
def sidecar() -> Iterator[SidecarProcess]:
    """Returns a sidecar without Redis."""
    with sidecar_process() as running:
        yield running


@pytest.mark.parametrize("nonsense", [b"\xff\xff", b"\x0a\x09cam", b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_not_a_message_end_the_session(sidecar: SidecarProcess, nonsense: bytes) -> None:
    """The session ends with INVALID_ARGUMENT after the answers to earlier requests, and no traceback is logged."""
    good = pb.ShouldProcessSessionRequest(stream_names=[nonsense.hex()], ts=[1.0]).SerializeToString()
    with grpc.insecure_channel(sidecar.address) as channel:
        session = channel.stream_stream(SESSION)(iter([good, nonsense]), timeout=120)
        answer = pb.ShouldProcessSessionResponse.FromString(next(session))
        assert list(answer.answers.should_process) == [True]
        with pytest.raises(grpc.RpcError) as ended:
            next(session)
        assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Traceback" not in sidecar.logs()
