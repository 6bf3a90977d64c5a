"""What the sidecars say: their streams, themselves, and their health. Several are asked at the same time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from handcounter.client.channel import open_channel
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub
from process.address import split_host_port

ANSWER_S: Final = 3.0
PAGE: Final = 1000
MOST_STREAMS: Final = 100_000
"""Of one sidecar: as many as it may have unless --max-streams says otherwise."""


@dataclass
class Said:
    """What one sidecar says."""

    address: str
    problem: str = ""
    """Why it doesn't answer; empty if it does."""
    streams: list[pb.StreamStatus] = field(default_factory=list)
    info: pb.GetServerInfoResponse | None = None


class Sidecars:
    """Some sidecars. For one thread."""

    def __init__(
        self, addresses: Sequence[str], credentials: grpc.ChannelCredentials | None = None, *, expected: bool = True
    ) -> None:
        """Takes addresses, which are resolved at each question: a name may stand for several sidecars.

        Args:
            addresses: HOST:PORT or unix:/path.
            credentials: for TLS; None: plain text.
            expected: whether somebody named them, so that one that doesn't answer is worth a remark.
        """
        self._addresses = addresses
        self._credentials = credentials
        self._expected = expected
        self._channels: dict[str, grpc.Channel] = {}

    def infos(self) -> list[Said]:
        """Asks each for its version, settings and state."""
        return self._ask(lambda stub: stub.GetServerInfo.future, lambda _: pb.GetServerInfoRequest(), _keep_info)

    def streams(self, prefix: str = "") -> list[Said]:
        """Asks each for all its streams, or those whose names begin with a prefix."""
        tokens: dict[str, str] = {}

        def request(said: Said) -> pb.ListStreamsRequest:
            return pb.ListStreamsRequest(page_size=PAGE, page_token=tokens.get(said.address, ""), name_prefix=prefix)

        def keep(said: Said, page: pb.ListStreamsResponse) -> bool:
            said.streams += page.streams
            tokens[said.address] = page.next_page_token
            return bool(page.next_page_token) and len(said.streams) < MOST_STREAMS

        return self._ask(lambda stub: stub.ListStreams.future, request, keep)

    def names(self) -> set[str]:
        """Returns the names of all streams."""
        return {stream.stream_name for said in self.streams() for stream in said.streams}

    def default_fps(self) -> float | None:
        """Returns the --fps of the sidecars if they all have the same; None if it isn't known."""
        found = {said.info.settings["fps"] for said in self.infos() if said.info and "fps" in said.info.settings}
        try:
            return float(found.pop()) if len(found) == 1 else None
        except ValueError:
            return None

    def health(self, address: str, component: str = "") -> str:
        """Returns the health of one sidecar in words: SERVING, or what it says instead."""
        stub: Any = health_pb2_grpc.HealthStub(self._channel(address))
        try:
            answer, call = stub.Check.with_call(health_pb2.HealthCheckRequest(service=component), timeout=ANSWER_S)
        except grpc.RpcError as error:
            return _reason(error)
        reason = dict(call.trailing_metadata() or ()).get("reason", "")
        word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return f"{word}: {reason}" if reason else word

    def problems(self, said: Sequence[Said]) -> list[str]:
        """Returns a remark for each sidecar that somebody named and that doesn't answer."""
        return [f"sidecar {each.address}: {each.problem}" for each in said if each.problem and self._expected]

    def close(self) -> None:
        """Closes all connections."""
        for channel in self._channels.values():
            channel.close()

    def _ask(
        self, method: Callable[[RateLimitServiceStub], Any], request: Callable[[Said], Any], keep: Callable[..., bool]
    ) -> list[Said]:
        """Calls all at once, and again those whose answer wasn't the last one."""
        all_said = [Said(address) for address in resolved(self._addresses)]
        waiting = list(all_said)
        while waiting:
            calls = [
                (said, method(RateLimitServiceStub(self._channel(said.address)))(request(said), timeout=ANSWER_S))
                for said in waiting
            ]
            waiting = []
            for said, call in calls:
                try:
                    if keep(said, call.result()):
                        waiting.append(said)
                except grpc.RpcError as error:
                    said.problem = _reason(error)
        return all_said

    def _channel(self, address: str) -> grpc.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address, self._credentials)
        return self._channels[address]


def resolved(addresses: Sequence[str]) -> list[str]:
    """Returns the addresses with each name that stands for several, as a headless Service does, replaced by all of them."""
    found: list[str] = []
    for address in addresses:
        if address.startswith("unix:"):
            found.append(address)
            continue
        host, port = split_host_port(address)
        try:
            answers = socket.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM)
        except OSError:
            found.append(address)  # its failure to connect says why
            continue
        hosts = sorted({str(answer[4][0]) for answer in answers})
        if set(hosts) == {"127.0.0.1", "::1"}:
            hosts = []  # one machine; gRPC tries both
        # A name that stands for one address is kept, because a certificate is for the name.
        found += (
            [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts] if len(hosts) > 1 else [address]
        )
    return list(dict.fromkeys(found))


def _keep_info(said: Said, info: pb.GetServerInfoResponse) -> bool:
    said.info = info
    return False


def _reason(error: grpc.RpcError) -> str:
    code = error.code() if isinstance(error, grpc.Call) else None
    if code is grpc.StatusCode.UNAVAILABLE:
        return "unreachable"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {ANSWER_S:g} s"
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    return f"{code.name if code else 'failed'}: {details}"
