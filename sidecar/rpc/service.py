"""The RPCs: protobuf to limiter and back."""

import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NoReturn, cast

import grpc

from handcounter.pacing.schedule import stream_name_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.deciding.limiter import Limiter
from sidecar.deciding.preview import Preview
from sidecar.limits.following import Follower
from sidecar.limits.layers import Layers
from sidecar.rpc.answers import batch_answers, one_answer, stream_status
from sidecar.rpc.requests import Context, RejectedError, frames, one_frame
from sidecar.rpc.session import Sessions
from sidecar.rpc.watch import Watches
from sidecar.telemetry.metrics import Metrics

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000


class RateLimitService(rate_limit_pb2_grpc.RateLimitServiceServicer):
    """Answers the calls of handcounter.ratelimit.v1.RateLimitService.

    Args:
        limiter: decides.
        preview: answers dry runs.
        follower: knows the state towards Redis.
        metrics: counts.
        sessions: serves ShouldProcessSession.
        watches: serves WatchLimits.
        version: of the sidecar, for GetServerInfo.
        settings: by the flags' names, secrets masked, for GetServerInfo.
        redis_problem: returns what Redis doesn't do and what to do about it; None: what the follower says.
        layers: the patterns and boosts, for GetServerInfo; None: there are none.
        wall_clock: Unix seconds, the ts of a frame without one.
    """

    def __init__(
        self,
        limiter: Limiter,
        preview: Preview,
        follower: Follower,
        metrics: Metrics,
        sessions: Sessions,
        watches: Watches,
        *,
        version: str,
        settings: Mapping[str, str],
        redis_problem: Callable[[], str] | None = None,
        layers: Layers | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._limiter = limiter
        self._preview = preview
        self._follower = follower
        self._metrics = metrics
        self._sessions = sessions
        self._watches = watches
        self._version = version
        self._settings = dict(settings)
        self._redis_problem = redis_problem or (lambda: follower.problem_sentence)
        self._layers = layers or Layers(wall_clock)
        self._wall_clock = wall_clock
        self._observe_one = metrics.decision_seconds.labels("ShouldProcess").observe
        self._observe_batch = metrics.decision_seconds.labels("ShouldProcessBatch").observe

    async def ShouldProcess(  # noqa: N802 (the contract's name)
        self, request: pb.ShouldProcessRequest, context: Context
    ) -> pb.ShouldProcessResponse:
        """Decides one frame."""
        started = time.perf_counter()
        try:
            name, ts = one_frame(request, self._wall_clock())
        except RejectedError as error:
            await self._reject(context, "ShouldProcess", error)
        if request.dry_run:
            return one_answer(await self._preview.decide_one(name, ts, known_only=request.known_limits_only))
        answer = one_answer(await self._limiter.decide_one(name, ts, known_only=request.known_limits_only))
        self._observe_one(time.perf_counter() - started)
        return answer

    async def ShouldProcessBatch(  # noqa: N802
        self, request: pb.ShouldProcessBatchRequest, context: Context
    ) -> pb.ShouldProcessBatchResponse:
        """Decides many frames in their order."""
        started = time.perf_counter()
        try:
            batch = frames(request, self._wall_clock())
        except RejectedError as error:
            await self._reject(context, "ShouldProcessBatch", error)
        if request.dry_run:
            return batch_answers(await self._preview.decide(batch, known_only=request.known_limits_only))
        self._metrics.batch_frames.observe(len(batch.stream_names))
        answer = batch_answers(await self._limiter.decide(batch, known_only=request.known_limits_only))
        self._observe_batch(time.perf_counter() - started)
        return answer

    async def ShouldProcessSession(  # type: ignore[override]  # noqa: N802 (it writes through the context)
        self,
        request_iterator: AsyncIterator[pb.ShouldProcessSessionRequest],
        context: Context,
    ) -> None:
        """Decides batches until the client or this process ends the session."""
        await self._sessions.serve(request_iterator, context)

    async def WatchLimits(  # type: ignore[override]  # noqa: N802 (it writes through the context)
        self,
        request_iterator: AsyncIterator[pb.WatchLimitsRequest],
        context: Context,
    ) -> None:
        """Tells limits until the client or this process ends the watch."""
        await self._watches.serve(request_iterator, context)

    async def ListStreams(  # noqa: N802
        self, request: pb.ListStreamsRequest, context: Context
    ) -> pb.ListStreamsResponse:
        """Lists streams by name."""
        try:
            if request.page_size < 0:
                raise _invalid(f"page_size must not be negative, got {request.page_size}")
            after = _decode_token(request.page_token, request.name_prefix)
        except RejectedError as error:
            await self._reject(context, "ListStreams", error)
        count = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        statuses = await self._limiter.list_streams(request.name_prefix, after, count + 1)
        page = statuses[:count]
        return pb.ListStreamsResponse(
            streams=map(stream_status, page),
            next_page_token=_encode_token(page[-1].stream_name) if len(statuses) > count else "",
        )

    async def GetServerInfo(  # noqa: N802
        self,
        request: pb.GetServerInfoRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.GetServerInfoResponse:
        """Describes the server."""
        return pb.GetServerInfoResponse(
            version=self._version,
            settings=self._settings,
            redis_state=cast(pb.RedisState, self._follower.state),
            fps_table_age_seconds=self._follower.age_s(),
            stream_count=len(self._limiter),
            redis_problem=self._redis_problem(),
            pattern_count=len(self._layers.patterns.values),
            boost_count=self._layers.boosts_in_force(),
        )

    async def _reject(self, context: Context, method: str, error: RejectedError) -> NoReturn:
        self._metrics.invalid_requests.labels(method).inc()
        await context.abort(error.status, str(error))
        raise AssertionError("abort raises")


def _encode_token(stream_name: str) -> str:
    return base64.urlsafe_b64encode(stream_name.encode()).decode()


def _decode_token(page_token: str, name_prefix: str) -> str:
    try:
        name = base64.b64decode(page_token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        name = ""
    if page_token and (stream_name_error(name) or not name.startswith(name_prefix)):
        raise _invalid(f"page_token must be the next_page_token of a page of the same list, got {page_token[:64]!r}")
    return name


def _invalid(message: str) -> RejectedError:
    return RejectedError(grpc.StatusCode.INVALID_ARGUMENT, message)
