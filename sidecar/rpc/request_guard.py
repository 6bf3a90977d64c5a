"""Refuses requests that can't be decoded or are too large, before a servicer gets them.

By itself grpc.aio answers what it can't decode with UNKNOWN, which clients take for a defect of the server, and logs a
traceback for each, so that any client could fill the disk. So the method handlers are wrapped when they are registered; a
valid request pays 0.1 µs for one more coroutine.

A refused request takes no more memory than its own bytes while the refusal is sent: what is larger than its method needs
isn't decoded, and a batch with too many frames is released at once (a million names of one letter are 3 MB as bytes and
50 MB as strings). So everything about the size and the shape of a request is checked here and nowhere else; what its
items mean is checked where they are decided.

A stream of answers that isn't read ends, see :class:`sidecar.rpc.unread_answers.BoundedWrites`.

A request that doesn't arrive is refused too, see :class:`sidecar.rpc.places.Places`. For that the handlers read the request
themselves, since gRPC would wait for it for ever.

Requests of a session are read by the servicer itself, which gets a :class:`Refusal` in place of the request. It reads the first
one from :class:`Requests`, and the others from the context: between them there may be any time. Other streams of requests end
with the refusal.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from handcounter.pacing.bounds import MAX_BATCH, MAX_BATCH_BYTES, MAX_WATCH_BYTES, too_long, uneven
from sidecar.rpc.places import LATE, Context, Places
from sidecar.rpc.unread_answers import BoundedWrites

MAX_SMALL_BYTES: Final = 65536
"""The largest request of a method without columns. Valid ones have a few KB; the rest is for fields to come."""

_SURELY_SHORT_BYTES: Final = 2 * MAX_BATCH
"""A request of at most so many bytes doesn't have too many frames or reports, since each takes a tag and a length."""

Deserializer = Callable[[bytes], Any]
Stream = Callable[[AsyncIterator[Any], Context], AsyncIterator[object]]
Answer = Callable[[Any, Context], Awaitable[object]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handlers: TypeAlias = "Mapping[str, Handler]"


class Refusal(NamedTuple):
    """Stands in for a request that was refused."""

    status: grpc.StatusCode
    message: str


_NO_REQUEST: Final = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")


class _Bounds(NamedTuple):
    """What a request of a method may have."""

    max_bytes: int | None = MAX_SMALL_BYTES
    """None: as many as the server accepts at all."""
    has_frames: bool = False
    """Whether it has the columns stream_names and ts."""
    has_reports: bool = False
    """Whether it has the column leased_denials."""
    watches: bool = False
    """Whether it has the columns stream_names and source_fps, and the column dropped_stream_names."""
    reads_refusals: bool = False
    """Whether the servicer of a stream of requests reads refusals."""


_BOUNDS: Final = {
    "ShouldProcessBatch": _Bounds(MAX_BATCH_BYTES, has_frames=True),
    "ShouldProcessSession": _Bounds(None, has_frames=True, has_reports=True, reads_refusals=True),
    "WatchLimits": _Bounds(MAX_WATCH_BYTES, watches=True, reads_refusals=True),
}
"""By method; all others have small requests."""


def refusing_malformed(
    server: "grpc.aio.Server", on_refused: Callable[[str], None], most_calls: int
) -> "grpc.aio.Server":
    """Wraps a server, to be passed to the generated ``add_..._to_server``.

    Args:
        server: The server. Its own bound on calls must be larger than ``most_calls`` by ``MAX_ENDING``.
        on_refused: Called with the name of the method for each refused request, except malformed ones of sessions.
        most_calls: How many calls may be open.

    Returns:
        The server, as far as the generated code uses it. Methods that are added to it refuse malformed requests.
    """
    return cast("grpc.aio.Server", _Registrar(server, on_refused, Places(most_calls)))


def add_later(
    server: "grpc.aio.Server", service_names: Collection[str], add: Callable[["grpc.aio.Server"], None]
) -> None:
    """Adds services to a server when one of their methods is called for the first time, to save their imports until then.

    Args:
        server: One that :func:`refusing_malformed` returned.
        service_names: The full names of the services.
        add: Adds them to a server that refuses malformed requests as this one does.
    """
    cast(_Registrar, server).add_later(service_names, add)


class _Registrar:
    """As much of a server as the generated code uses."""

    def __init__(self, server: "grpc.aio.Server", on_refused: Callable[[str], None], places: Places) -> None:
        self._server = server
        self._on_refused = on_refused
        self._places = places

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "tuple[grpc.GenericRpcHandler, ...]") -> None:
        """Ignores them: the same methods come through add_registered_method_handlers, where they can be wrapped."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Wraps the methods of a service and adds them."""
        wrapped = {
            name: _wrapped(
                name, _BOUNDS.get(name, _Bounds()), handler, self._places, functools.partial(self._on_refused, name)
            )
            for name, handler in method_handlers.items()
        }
        # grpc.aio waits for the next call of each registered method separately, and every call pays for all these waits.
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))

    def add_later(self, service_names: Collection[str], add: Callable[["grpc.aio.Server"], None]) -> None:
        """Adds services when one of their methods is called for the first time."""

        def add_to(later: _Later) -> None:
            add(cast("grpc.aio.Server", _Registrar(cast("grpc.aio.Server", later), self._on_refused, self._places)))

        self._server.add_generic_rpc_handlers((_Later(service_names, add_to),))


class _Later(grpc.GenericRpcHandler):
    """Finds the methods of services that are added at the first call, and so is as much of a server as a registrar uses."""

    def __init__(self, service_names: Collection[str], add_to: Callable[["_Later"], None]) -> None:
        self._prefixes = tuple(f"/{name}/" for name in service_names)
        self._add_to = add_to
        self._handlers: list[grpc.GenericRpcHandler] = []

    def service(self, handler_call_details: "grpc.HandlerCallDetails") -> "Handler | None":
        """Returns the handler of a method; None if it belongs to another service."""
        if not handler_call_details.method.startswith(self._prefixes):
            return None
        if not self._handlers:
            self._add_to(self)
        return next(filter(None, (handler.service(handler_call_details) for handler in self._handlers)), None)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "tuple[grpc.GenericRpcHandler, ...]") -> None:
        """Adds the methods of a service."""
        self._handlers.extend(generic_rpc_handlers)


class Requests:
    """The requests of a call, as its servicer reads them: each has to arrive within a time, see :class:`Places`."""

    def __init__(self, places: Places, context: Context) -> None:
        self.is_late = False
        """Whether the call lost its place because a request hadn't arrived."""
        self._places = places
        self._context = context

    def __aiter__(self) -> "Requests":
        """Returns itself."""
        return self

    async def __anext__(self) -> object:
        """Returns the next request."""
        self._places.wait(self._context)
        try:
            request = await self._context.read()
        finally:
            self.is_late = self._places.waiting.pop(self._context, None) is None
        if self.is_late:
            await self._context.abort(*LATE)
        if request is grpc.aio.EOF:
            raise StopAsyncIteration
        return request


def _wrapped(name: str, bounds: _Bounds, handler: Handler, places: Places, on_refused: Callable[[], None]) -> Handler:
    answer: Answer
    if handler.request_streaming and bounds.reads_refusals:
        answer = _with_requests(cast(Answer, handler.stream_stream), places, on_refused)
    elif handler.request_streaming:
        answer = _with_requests(
            _bounded_writes(name, _ending_with_refusal(cast(Stream, handler.stream_stream), on_refused)),
            places,
            on_refused,
        )
    elif handler.response_streaming:
        # Such a method writes its answers through the context.
        answer = _with_one_request(_bounded_writes(name, cast(Answer, handler.unary_stream)), places, on_refused)
    else:
        answer = _with_one_request(cast(Answer, handler.unary_unary), places, on_refused)
    # The request of a unary call would be read by gRPC itself, which waits for it for ever.
    make = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    return make(
        cast(Any, answer),
        request_deserializer=_refusing(bounds, cast(Deserializer, handler.request_deserializer)),
        response_serializer=handler.response_serializer,
    )


def _with_one_request(answer: Answer, places: Places, on_refused: Callable[[], None]) -> Answer:
    """Returns a handler that takes a place, reads the request and answers it."""
    waiting = places.waiting

    async def answer_or_refuse(_requests: object, context: Context) -> object:
        # All in one coroutine and without calls of Places, since each of those would cost as much as all that is done here.
        if places.taken >= places.most:
            await places.make_room(context)
        places.taken += 1
        is_late, request = False, None
        try:
            waiting[context] = monotonic()
            if places.timer is None:
                places.start_timer()
            try:
                request = await context.read()
            finally:
                is_late = waiting.pop(context, None) is None
            if is_late:
                await context.abort(*LATE)
            if request is grpc.aio.EOF:
                request = _NO_REQUEST
            if isinstance(request, Refusal):
                on_refused()
                await context.abort(request.status, request.message)
            return await answer(request, context)
        except grpc.aio.AbortError as aborted:
            if is_late:
                on_refused()
            # The call keeps the error that ended it, the error keeps its frames, and these keep the request and the call:
            # garbage that is large, but too few objects for the collector to run soon.
            del request, context
            aborted.__context__ = None
            raise aborted.with_traceback(None) from None
        finally:
            places.taken -= 1

    return answer_or_refuse


def _with_requests(answer: Answer, places: Places, on_refused: Callable[[], None]) -> Answer:
    """Returns a handler that takes a place and answers a stream of requests."""

    async def answer_or_refuse(_requests: object, context: Context) -> object:
        if places.taken >= places.most:
            await places.make_room(context)
        places.taken += 1
        requests = Requests(places, context)
        try:
            return await answer(requests, context)
        except grpc.aio.AbortError as aborted:
            if requests.is_late:
                on_refused()
            del requests, context  # as above
            aborted.__context__ = None
            raise aborted.with_traceback(None) from None
        finally:
            places.taken -= 1

    return answer_or_refuse


def _ending_with_refusal(answer: Stream, on_refused: Callable[[], None]) -> Answer:
    """Returns a handler of a stream of requests that ends with the first one that is refused."""

    async def valid(requests: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
        async for request in requests:
            if isinstance(request, Refusal):
                on_refused()
                await context.abort(request.status, request.message)
            yield request

    async def answer_or_end(requests: Any, context: Context) -> None:
        async for response in answer(valid(requests, context), context):
            await context.write(response)

    return answer_or_end


def _bounded_writes(name: str, answer: Answer) -> Answer:
    """Returns a handler whose call ends if the client doesn't read one of its answers."""

    def answer_or_cut(request: object, context: Context) -> Awaitable[object]:
        return answer(request, cast(Context, BoundedWrites(context, name)))

    return answer_or_cut


def _refusing(bounds: _Bounds, deserialize: Deserializer) -> Deserializer:
    """Returns a deserializer whose result is a refusal for bytes that aren't a request within the bounds."""
    max_bytes, has_frames, has_reports, watches, _ = bounds

    def deserialize_or_refuse(data: bytes) -> Any:
        if max_bytes is not None and len(data) > max_bytes:
            error = f"a request of this method may have at most {max_bytes} bytes, got {len(data)}"
            return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, error)
        try:
            request = deserialize(data)
        except DecodeError:
            return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the request isn't a message of this method's type")
        if has_frames:
            frames, tss = len(request.stream_names), len(request.ts)
            if len(data) > _SURELY_SHORT_BYTES and (
                excess := too_long(frames) or (has_reports and too_long(len(request.leased_denials), "reports"))
            ):
                return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, excess)
            if tss and tss != frames and (mismatch := uneven(frames, tss)):
                return Refusal(grpc.StatusCode.INVALID_ARGUMENT, mismatch)
        if watches:
            streams, rates = len(request.stream_names), len(request.source_fps)
            if excess := too_long(streams, "streams") or too_long(len(request.dropped_stream_names), "streams"):
                return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, excess)
            if rates and (mismatch := uneven(streams, rates, "source_fps")):
                return Refusal(grpc.StatusCode.INVALID_ARGUMENT, mismatch)
        return request

    return deserialize_or_refuse
