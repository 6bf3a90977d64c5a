"""The sidecar's bound on calls fits its container's memory limit: the largest requests fit in."""

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from support.deploy import compose_services, read_document
from support.processes.programs import REPOSITORY
from support.processes.sidecars import SidecarProcess, sidecar_process

from handcounter.pacing.bounds import MAX_BATCH, MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

SERVICE = "/handcounter.ratelimit.v1.RateLimitService"
OK, INVALID_ARGUMENT = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
CALLERS = 24
"""Three times as many clients as may call at a time."""

ROUNDS = 2
NAMES = [f"{number:06d}" + "\U0001f590" * 250 for number in range(MAX_BATCH)]


def sidecar_env() -> dict[str, str]:
    """Returns the sidecar's variables in k8s/base."""
    lines = (REPOSITORY / "k8s/base/sidecar.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def memory_limit_kib() -> int:
    """Returns the memory limit of the container in k8s/base, KiB."""
    pod = read_document(REPOSITORY / "k8s/base/deployment.yaml")["spec"]["template"]["spec"]
    (sidecar,) = (each for each in pod["initContainers"] if each["name"] == "sidecar")
    number, unit = re.fullmatch(r"(\d+)([MG])i", sidecar["resources"]["limits"]["memory"]).groups()
    return int(number) * {"M": 2**10, "G": 2**20}[unit]


def image_variables() -> dict[str, str]:
    """Returns the image's variables for glibc."""
    return dict(re.findall(r"\b(MALLOC_\w+)=(\S+)", (REPOSITORY / "Dockerfile.sidecar").read_text()))


def test_compose_has_the_same_bounds():
    """The compose file has the same memory limit and bound on calls as the pod."""
    sidecar = compose_services()["sidecar"]
    number = sidecar["environment"]["SIDECAR_MAX_CONCURRENT_CALLS"]
    assert number == sidecar_env()["SIDECAR_MAX_CONCURRENT_CALLS"]
    assert int(sidecar["mem_limit"].removesuffix("m")) * 2**10 == memory_limit_kib()


def largest_batch() -> bytes:
    return pb.ShouldProcessBatchRequest(stream_names=NAMES, ts=[1.0] * MAX_BATCH).SerializeToString()


def refused_batch() -> bytes:
    return pb.ShouldProcessBatchRequest(stream_names=NAMES, ts=[-1.0] * MAX_BATCH).SerializeToString()


def many_names() -> bytes:
    return pb.ShouldProcessBatchRequest(stream_names=["x"] * (MAX_BATCH_BYTES // 3)).SerializeToString()


def long_name() -> bytes:
    return pb.ShouldProcessRequest(stream_name="x" * (MAX_REQUEST_BYTES - 100)).SerializeToString()


def largest_question() -> bytes:
    """Returns the largest request: a session's, with reports."""
    reports = [
        pb.LeasedDenials(stream_name=name, too_soon=1, last_ts=1.0, last_reason=pb.REASON_TOO_SOON) for name in NAMES
    ]
    question = pb.ShouldProcessSessionRequest(stream_names=NAMES, ts=[1.0] * MAX_BATCH, leased_denials=reports)
    return question.SerializeToString()


@pytest.fixture(scope="module")
def sidecar() -> Iterator[SidecarProcess]:
    """Yields a sidecar with the container's variables."""
    environment = {**sidecar_env(), **image_variables()}
    with sidecar_process("--scope", "pod", environment=environment, fresh=True) as running:
        yield running


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to read the peak of the memory")
@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        ("ShouldProcessBatch", largest_batch),
        ("ShouldProcessBatch", refused_batch),
        ("ShouldProcessBatch", many_names),
        ("ShouldProcess", long_name),
        ("ShouldProcessSession", largest_question),
    ],
)
def test_the_largest_requests_fit_into_the_container(
    sidecar: SidecarProcess, method: str, request_of: Callable[[], bytes]
):
    """The peak memory stays below the limit, however many callers send the largest requests, valid or not."""
    request = request_of()
    Path(f"/proc/{sidecar.pid}/clear_refs").write_text(
        "5"
    )  # the peak begins anew, from what earlier requests have left
    with ThreadPoolExecutor(CALLERS) as callers:
        asked = [callers.submit(ask, sidecar.address, method, request, n) for n in range(CALLERS * ROUNDS)]
        statuses = {each.result() for each in asked}
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{sidecar.pid}/status").read_text())
    assert "Traceback" not in sidecar.logs()
    # A call that is refused while its request is still on the way may end as cancelled: then the reset of the HTTP/2
    # stream has overtaken the status.
    assert statuses <= {OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
    assert int(peak) < memory_limit_kib()


def ask(address: str, method: str, request: bytes, number: int) -> grpc.StatusCode:
    """Sends one request over its own connection; returns the status of the call."""
    options = [("grpc.use_local_subchannel_pool", 1), ("caller", number)]
    with grpc.insecure_channel(address, options=options) as channel:
        call = channel.stream_stream(f"{SERVICE}/{method}")(iter((request,)), timeout=120)
        with contextlib.suppress(grpc.RpcError):
            list(call)
        return call.code()
