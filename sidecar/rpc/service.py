"""The RPCs: protobuf to limiter and back. Whatever makes no sense is refused here, before anything is changed."""

import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NoReturn, cast

import grpc

from handcounter.pacing.bounds import batch_error
from handcounter.pacing.schedule import Reason, stream_name_error, ts_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.deciding.limiter import Limiter
from sidecar.limits.follower import FpsFollower
from sidecar.rpc.session import Sessions
from sidecar.telemetry.metrics import Metrics

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000

Context = grpc.aio.ServicerContext[Any, Any]


class RateLimitService(rate_limit_pb2_grpc.RateLimitServiceServicer):
    """Answers the calls of handcounter.ratelimit.v1.RateLimitService.

    Args:
        limiter: decides.
        follower: knows how Redis is doing.
        metrics: counts.
        sessions: serves those who ask over one long call.
        version: what GetServerInfo tells.
        settings: what GetServerInfo tells, by the flags' names, secrets masked.
        clock: real time, seconds by a monotonic clock.
        wall_clock: Unix seconds, the ts of a frame that comes without one.
    """

    def __init__(
        self,
        limiter: Limiter,
        follower: FpsFollower,
        metrics: Metrics,
        sessions: Sessions,
        *,
        version: str,
        settings: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._limiter = limiter
        self._follower = follower
        self._metrics = metrics
        self._sessions = sessions
        self._version = version
        self._settings = dict(settings)
        self._clock = clock
        self._wall_clock = wall_clock
        self._took_one = metrics.decision_seconds.labels("ShouldProcess").observe
        self._took_batch = metrics.decision_seconds.labels("ShouldProcessBatch").observe

    async def ShouldProcess(  # noqa: N802 (the contract's name)
        self, request: pb.ShouldProcessRequest, context: Context
    ) -> pb.ShouldProcessResponse:
        """Decides one frame."""
        started = time.perf_counter()
        name = request.stream_name
        ts = request.ts if request.HasField("ts") else self._wall_clock()
        error = stream_name_error(name) or ts_error(ts)
        if error:
            await self._refuse(context, "ShouldProcess", error)
        limiter = self._limiter
        if not limiter.is_prepared(name):
            await limiter.prepare((name,))
        reason, limit, next_ts, stale = await limiter.answer(name, ts, self._clock())
        answer = pb.ShouldProcessResponse()  # setting fields costs half of passing them
        answer.should_process = limiter.shadow or reason is Reason.ADMITTED
        answer.reason = cast(pb.Reason, reason)
        answer.fps = limit.fps
        answer.fps_source = cast(pb.FpsSource, limit.source)
        answer.stale = stale
        answer.next_ts = 0.0 if limiter.shadow else next_ts
        self._took_one(time.perf_counter() - started)
        return answer

    async def ShouldProcessBatch(  # noqa: N802
        self, request: pb.ShouldProcessBatchRequest, context: Context
    ) -> pb.ShouldProcessBatchResponse:
        """Decides many frames in their order."""
        started = time.perf_counter()
        names, tss = list(request.stream_names), list(request.ts)
        if not tss:
            tss = [self._wall_clock()] * len(names)
        error = batch_error(names, tss)
        if error:
            await self._refuse(context, "ShouldProcessBatch", error)
        limiter = self._limiter
        self._metrics.batch_frames.observe(len(names))
        unprepared = limiter.unprepared(names)
        if unprepared:
            await limiter.prepare(unprepared, names)
        answers = await limiter.answer_all(names, tss, self._clock())
        answer = pb.ShouldProcessBatchResponse(**answers._asdict())
        self._took_batch(time.perf_counter() - started)
        return answer

    async def ShouldProcessSession(  # type: ignore[override]  # noqa: N802 (it writes through the context)
        self,
        request_iterator: AsyncIterator[pb.ShouldProcessSessionRequest],  # noqa: ARG002 (read through the context)
        context: Context,
    ) -> None:
        """Decides batches until the client, or this process, ends the session."""
        await self._sessions.serve(context)

    async def ListStreams(  # noqa: N802
        self, request: pb.ListStreamsRequest, context: Context
    ) -> pb.ListStreamsResponse:
        """Lists streams by name."""
        if request.page_size < 0:
            error = f"page_size must not be negative, got {request.page_size}"
            await self._refuse(context, "ListStreams", error)
        try:
            after = _name_in(request.page_token, request.name_prefix)
        except ValueError as bad_token:
            await self._refuse(context, "ListStreams", str(bad_token))
        count = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        statuses = await self._limiter.list_streams(request.name_prefix, after, count + 1)
        page = statuses[:count]
        return pb.ListStreamsResponse(
            streams=[pb.StreamStatus(**status._asdict()) for status in page],
            next_page_token=_token_of(page[-1].stream_name) if len(statuses) > count else "",
        )

    async def GetServerInfo(  # noqa: N802
        self,
        request: pb.GetServerInfoRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.GetServerInfoResponse:
        """Tells about the server."""
        return pb.GetServerInfoResponse(
            version=self._version,
            settings=self._settings,
            redis_state=cast(pb.RedisState, self._follower.state),
            fps_table_age_seconds=self._follower.age_s(),
            stream_count=len(self._limiter),
        )

    async def _refuse(self, context: Context, method: str, error: str) -> NoReturn:
        self._metrics.invalid_requests.labels(method).inc()
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error)
        raise AssertionError("abort raises")


def _token_of(stream_name: str) -> str:
    return base64.urlsafe_b64encode(stream_name.encode()).decode()


def _name_in(page_token: str, name_prefix: str) -> str:
    try:
        name = base64.b64decode(page_token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        name = ""
    if page_token and (stream_name_error(name) or not name.startswith(name_prefix)):
        raise ValueError(f"page_token must be the next_page_token of a page of the same list, got {page_token[:64]!r}")
    return name
