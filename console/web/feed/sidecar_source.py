"""Reads what the sidecars say: the limits in force, the rates, and about the sidecars themselves.

An address may stand for several sidecars, as the name of a headless Service does: each address that it resolves to is one.
"""

import asyncio
import logging
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from console.web.feed.facts import Paced
from console.web.feed.load import Load
from handcounter.client.channel import CHANNEL_OPTIONS
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub
from process.address import split_host_port

logger = logging.getLogger(__name__)

PAGE: Final = 1000
MOST_PAGES: Final = 20
CALL_S: Final = 2.0
RESOLVE_S: Final = 10.0
MOST_SIDECARS: Final = 64
FAILURES: Final = 3
"""In a row, after which the page says that a sidecar doesn't answer: one alone may be a restart."""

_STATES: Final = {pb.REDIS_STATE_TRACKING: "tracking", pb.REDIS_STATE_POLLING: "polling", pb.REDIS_STATE_AWAY: "away"}


def _word(enum: Any, number: int, prefix: str) -> str:
    """Returns the word of a number of the contract; empty for one that this console doesn't know."""
    try:
        return str(enum.Name(number)).removeprefix(prefix).lower()
    except ValueError:
        return ""


@dataclass
class Sidecar:
    """One sidecar, and what it said last."""

    address: str
    channel: grpc.aio.Channel
    streams: dict[str, Paced] = field(default_factory=dict)
    info: dict[str, object] = field(default_factory=dict)
    problem: str = "not asked yet"
    """Why it can't be asked; empty if it answers."""
    failures: int = 0
    """In a row, since it answered last; 0 also before it has ever answered."""
    answered: bool = False

    @property
    def stub(self) -> Any:
        """The calls."""
        return RateLimitServiceStub(self.channel)


class SidecarSource:
    """All sidecars. No reading raises: a sidecar that doesn't answer has a problem, and its streams are forgotten."""

    def __init__(self, addresses: list[str], load: Load, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._addresses = addresses
        self._credentials = credentials
        self._load = load
        self._sidecars: dict[str, Sidecar] = {}
        self._resolved_at = float("-inf")
        self._resolving = asyncio.Lock()

    async def read_streams(self) -> dict[str, Paced]:
        """Asks all sidecars for all streams, and returns what they say together."""
        await self._resolve()
        await asyncio.gather(*(self._read_streams(sidecar) for sidecar in self._sidecars.values()))
        together: dict[str, Paced] = {}
        for sidecar in self._sidecars.values():
            for name, paced in sidecar.streams.items():
                known = together.get(name)
                together[name] = known.merged(paced) if known else paced
        return together

    async def read_infos(self) -> list[dict[str, object]]:
        """Asks all sidecars about themselves; returns one object for each."""
        await self._resolve()
        await asyncio.gather(*(self._read_info(sidecar) for sidecar in self._sidecars.values()))
        return [
            {"address": each.address, "problem": each.problem, **each.info}
            for _, each in sorted(self._sidecars.items())
        ]

    async def would_process(self, name: str) -> dict[str, object] | None:
        """Asks what would be decided about a frame of a stream now, which changes nothing; None if no sidecar answers."""
        knowing = [each for each in self._sidecars.values() if name in each.streams]
        for sidecar in knowing or list(self._sidecars.values()):
            self._load.sidecar_calls.labels("ShouldProcess").inc()
            try:
                answer = await sidecar.stub.ShouldProcess(
                    pb.ShouldProcessRequest(stream_name=name, dry_run=True), timeout=CALL_S
                )
            except (grpc.RpcError, UnicodeEncodeError, ValueError):
                continue
            return {
                "reason": _word(pb.Reason, answer.reason, "REASON_"),
                "fps": "inf" if answer.fps == float("inf") else answer.fps,
                "source": _word(pb.FpsSource, answer.fps_source, "FPS_SOURCE_"),
                "stale": answer.stale,
                "next_ts": None if answer.next_ts == float("inf") else answer.next_ts,
                "sidecar": sidecar.address,
            }
        return None

    def problems(self) -> list[str]:
        """Returns a sentence for each sidecar that has answered and doesn't any more; one that never did may not exist."""
        return [
            f"The sidecar {each.address} doesn't answer: {each.problem}"
            for _, each in sorted(self._sidecars.items())
            if each.failures >= FAILURES
        ]

    async def close(self) -> None:
        """Closes the channels."""
        for sidecar in self._sidecars.values():
            await sidecar.channel.close()

    async def _read_streams(self, sidecar: Sidecar) -> None:
        found: dict[str, Paced] = {}
        token = ""
        try:
            for _ in range(MOST_PAGES):
                self._load.sidecar_calls.labels("ListStreams").inc()
                request = pb.ListStreamsRequest(page_size=PAGE, page_token=token)
                page = await sidecar.stub.ListStreams(request, timeout=CALL_S)
                for each in page.streams:
                    found[each.stream_name] = _paced(each)
                token = page.next_page_token
                if not token:
                    break
        except grpc.RpcError as error:
            self._fail(sidecar, error)
            found = {}
        else:
            sidecar.problem, sidecar.failures, sidecar.answered = "", 0, True
        sidecar.streams = found

    async def _read_info(self, sidecar: Sidecar) -> None:
        self._load.sidecar_calls.labels("GetServerInfo").inc()
        began = time.monotonic()
        try:
            info = await sidecar.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=CALL_S)
        except grpc.RpcError as error:
            self._fail(sidecar, error)
            sidecar.info = {}
            return
        age = info.fps_table_age_seconds
        sidecar.info = {
            "version": info.version,
            "redis_state": _STATES.get(info.redis_state, ""),
            "redis_problem": info.redis_problem,
            "table_age_s": None if age == float("inf") else round(age),
            "streams": info.stream_count,
            "answers_ms": round((time.monotonic() - began) * 1000),
            "default_fps": info.settings.get("fps", ""),
            "scope": info.settings.get("scope", ""),
            "pacing": info.settings.get("pacing", ""),
            "shadow": info.settings.get("shadow", "") in ("true", "True", "1"),
        }

    def _fail(self, sidecar: Sidecar, error: Exception) -> None:
        self._load.errors.labels("sidecar").inc()
        problem = error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
        if not sidecar.problem or sidecar.problem == "not asked yet":
            logger.warning("a sidecar doesn't answer", extra={"sidecar": sidecar.address, "error": problem})
        sidecar.problem = problem.lower().replace("_", " ")
        sidecar.failures += sidecar.answered

    async def _resolve(self) -> None:
        """Finds the addresses of all sidecars from time to time; keeps the channels of those that stay."""
        async with self._resolving:
            if time.monotonic() - self._resolved_at >= RESOLVE_S:
                await self._resolve_now()
                self._resolved_at = time.monotonic()

    async def _resolve_now(self) -> None:
        found: dict[str, str] = {}
        for address in self._addresses:
            for one in await _addresses(address):
                found.setdefault(one, address)
        for address in list(self._sidecars):
            if address not in found:
                await self._sidecars.pop(address).channel.close()
        for one, address in list(found.items())[:MOST_SIDECARS]:
            if one not in self._sidecars:
                self._sidecars[one] = Sidecar(one, self._open(one, address))

    def _open(self, one: str, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(one, options=CHANNEL_OPTIONS)
        options: list[tuple[str, str | int]] = list(CHANNEL_OPTIONS)
        if one != address:  # the certificate is that of the name
            options.append(("grpc.ssl_target_name_override", split_host_port(address)[0]))
        return grpc.aio.secure_channel(one, self._credentials, options=options)


async def _addresses(address: str) -> list[str]:
    """Returns the addresses that a name stands for; the address itself if it is one, or can't be resolved."""
    if address.startswith("unix:"):
        return [address]
    host, port = split_host_port(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return [address]
    hosts = sorted({str(each[4][0]) for each in found})
    if len(hosts) <= 1 or host == "localhost":
        return [address]
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts]


def _paced(status: pb.StreamStatus) -> Paced:
    return Paced(
        fps=status.fps if status.fps >= 0.0 else 0.0,
        source=_word(pb.FpsSource, status.fps_source, "FPS_SOURCE_"),
        invalid=status.invalid_value,
        stale=status.stale,
        unread=status.limit_unread,
        admitted=status.admitted,
        denied=status.denied,
        admitted_fps=status.achieved_fps,
        source_fps=status.source_fps,
        last_reason=_word(pb.Reason, status.last_reason, "REASON_"),
    )
