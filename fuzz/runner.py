"""Sends generated calls to a running sidecar and judges the answers."""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from bench.servers import resident_bytes
from fuzz.oracle import allowed_statuses, answer_error, good_requests
from fuzz.requests import LONGEST_SESSION, SERVICE, Call, Generator
from fuzz.session_oracle import session_error
from fuzz.watch_oracle import WatchJudge
from handcounter.client.channel import CHANNEL_OPTIONS
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

IN_FLIGHT = 32
CALL_DEADLINE_S = 30.0
"""A call that takes longer is considered hung."""
NOISE_EVERY = 200
"""How many calls are made for each connection that doesn't speak HTTP/2."""
CANARY_EVERY = 100
RSS_POINTS = 20
MOST_DEFECTS = 20

CANARY_FPS = 1000.0
"""The sidecar's --fps: any stream may be evicted a millisecond after its last frame, so the canary usually finds room."""
_WRITE_FAILED = "Internal error from Core"
"""What grpc.aio's client reports instead of the server's status if the server ends a session during a write."""
Watch = Callable[[int, float, int], None]
"""Gets the number of sent requests, the seconds since the start and the sidecar's memory in bytes."""
_CANARY = "canary, a name that is never generated"
_ROOM = [pb.REASON_ADMITTED, pb.REASON_DUPLICATE, pb.REASON_LATE, pb.REASON_ADMITTED]
_EXPECTED = (
    _ROOM,
    # If no stream can be evicted for it at once, its first frames are denied.
    [pb.REASON_TOO_SOON, pb.REASON_ADMITTED, pb.REASON_LATE, pb.REASON_ADMITTED],
    [pb.REASON_TOO_SOON, pb.REASON_TOO_SOON, pb.REASON_ADMITTED, pb.REASON_ADMITTED],
    [pb.REASON_TOO_SOON, pb.REASON_TOO_SOON, pb.REASON_TOO_SOON, pb.REASON_ADMITTED],
    [pb.REASON_TOO_SOON] * 4,
)


class Outcome(NamedTuple):
    """The result of a run."""

    requests: int
    seconds: float
    statuses: dict[str, int]
    """Calls by method and status."""
    responses: int
    """The responses of sessions, by kind."""
    defects: list[str]
    """The first few defects; empty if there were none."""
    rss: list[tuple[int, int]]
    """The number of sent requests, and the sidecar's memory in bytes at that time."""

    @property
    def growth_bytes(self) -> int:
        """Returns the growth of the memory over the second half."""
        half = [rss for sent, rss in self.rss if sent >= self.requests // 2]
        return half[-1] - half[0]


class Fuzzer:
    """Fuzzes one sidecar, which must run at CANARY_FPS without Redis.

    Args:
        address: the sidecar's HOST:PORT.
        pid: its process id.
        seed: the generator's.
    """

    def __init__(self, address: str, pid: int, seed: int) -> None:
        self._address = address
        self._pid = pid
        self._generator = Generator(seed)
        self._defects: list[str] = []
        self._statuses: collections.Counter[str] = collections.Counter()
        self._responses = 0
        self._sent = 0
        self._canary_ts = 0.0
        self._canary_lock = asyncio.Lock()

    async def run(self, requests: int, watch: Watch = lambda _sent, _seconds, _rss: None) -> Outcome:
        """Sends at least the given number of requests; stops after the first few defects."""
        rss: list[tuple[int, int]] = []
        started = time.monotonic()
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            step = max(1, requests // RSS_POINTS)

            async def send() -> None:
                while self._sent < requests and len(self._defects) < MOST_DEFECTS:
                    call = _until_bad(self._generator.call())
                    before, self._sent = self._sent, self._sent + len(call.requests)
                    if before // step != self._sent // step:
                        rss.append((self._sent, resident_bytes(self._pid)))
                        watch(self._sent, time.monotonic() - started, rss[-1][1])
                    if before // NOISE_EVERY != self._sent // NOISE_EVERY:
                        await self._make_noise()
                    if before // CANARY_EVERY != self._sent // CANARY_EVERY:
                        await self._ask_canary(channel)
                    await self._make(channel, call)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(IN_FLIGHT):
                    tasks.create_task(send())
            await self._ask_canary(channel)
        rss.append((self._sent, resident_bytes(self._pid)))
        seconds = time.monotonic() - started
        return Outcome(self._sent, seconds, dict(self._statuses), self._responses, self._defects[:MOST_DEFECTS], rss)

    async def _make(self, channel: grpc.aio.Channel, call: Call) -> None:
        path = f"/{SERVICE.full_name}/{call.method.name}"
        if call.method.client_streaming:
            open_session: Any = channel.stream_stream(path)
            hold = self._watch if call.method.name == "WatchLimits" else self._hold
            await hold(open_session(timeout=CALL_DEADLINE_S), call)
            return
        answer = b""
        try:
            make: Any = channel.unary_unary(path)
            answer = await make(call.requests[0], timeout=CALL_DEADLINE_S)
            status, details = grpc.StatusCode.OK, ""
        except grpc.aio.AioRpcError as error:
            status, details = error.code(), error.details() or ""
        self._judge(call, status, details)
        if status is grpc.StatusCode.OK and (error_text := answer_error(call, answer)):
            self._defect(call, error_text)

    async def _hold(self, session: Any, call: Call) -> None:
        responses = await _converse(session, call.requests)
        status, details = await session.code(), await session.details() or ""
        was_read = details != _WRITE_FAILED
        if was_read:
            self._judge(call, status, details)
        else:
            self._statuses[f"{call.method.name} ended while it was written to"] += 1
            if allowed_statuses(call) == {grpc.StatusCode.OK}:
                self._defect(call, "a session of valid requests was ended")
        self._responses += len(responses)
        if error_text := session_error(call, responses, whole=was_read):
            self._defect(call, error_text)

    async def _watch(self, watch: Any, call: Call) -> None:
        """Watches until everything was told that has to be, or the sidecar ends the watch."""
        judge = WatchJudge(call)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for request in call.requests:
                await watch.write(request)
            await watch.done_writing()
        with contextlib.suppress(grpc.aio.AioRpcError):
            while not judge.goes_on and (message := await watch.read()) is not grpc.aio.EOF:
                judge.take(message)
                self._responses += 1
        if judge.error:
            self._defect(call, judge.error)
        if judge.goes_on:
            watch.cancel()
            self._judge(call, grpc.StatusCode.OK, "")
            return
        status, details = await watch.code(), await watch.details() or ""
        if details != _WRITE_FAILED:
            self._judge(call, status, details)
        elif allowed_statuses(call) == {grpc.StatusCode.OK}:
            self._defect(call, "a watch of valid requests was ended")

    def _judge(self, call: Call, status: grpc.StatusCode, details: str) -> None:
        self._statuses[f"{call.method.name} {status.name}"] += 1
        if status not in allowed_statuses(call):
            self._defect(call, f"{status.name}: {details}")

    async def _ask_canary(self, channel: grpc.aio.Channel) -> None:
        """Checks that a stream of no other client is decided by the rule, whatever the other calls do."""
        async with self._canary_lock:
            ts = self._canary_ts = self._canary_ts + 10.0
            request = pb.ShouldProcessBatchRequest(stream_names=[_CANARY] * 4, ts=[ts, ts, ts - 1.0, ts + 1.0])
            try:
                stub: Any = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
                answer = await stub.ShouldProcessBatch(request, timeout=CALL_DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                self._defects.append(f"the canary got {error.code().name}: {error.details()}")
                return
            if list(answer.reasons) not in _EXPECTED:
                self._defects.append(f"the canary got {list(answer.reasons)}")

    async def _make_noise(self) -> None:
        host, _, port = self._address.rpartition(":")
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(self._generator.noise())
            writer.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1 << 16)
            writer.close()

    def _defect(self, call: Call, what: str) -> None:
        shown = " ".join(request[:200].hex() for request in call.requests)
        self._defects.append(f"{call.method.name}: {what[:300]}; the request begins with {shown}")


def _until_bad(call: Call) -> Call:
    """Returns the call; sessions, except the longest, are cut after their first invalid request.

    Writing to a session after that hides how it ended, see _WRITE_FAILED.
    """
    if not call.method.client_streaming or len(call.requests) == LONGEST_SESSION:
        return call
    return call._replace(requests=call.requests[: len(good_requests(call)) + 1])


async def _converse(session: Any, requests: list[bytes]) -> list[bytes]:
    """Sends all requests and returns all responses, also if the session ends in between."""
    responses = []
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for request in requests:
            await session.write(request)
        await session.done_writing()
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (response := await session.read()) is not grpc.aio.EOF:
            responses.append(response)
    return responses
