"""Ends calls whose client doesn't read.

A client that keeps its connection alive and reads nothing, because its program hangs or is malicious, would hold its calls
for ever: what has to be sent waits for HTTP/2's flow control, a write can't be taken back, and no status can be sent
before it. grpc.aio has no method that resets a call. But Core resets a call that nobody refers to any more, and the only
references to it are in two tasks: one that runs the handler and sends the answer, and one that waits for the end of the
call, which isn't public. Cancelling both frees the call's place; the client gets CANCELLED, at the next call at the latest.
One call of a server, often its first, stays referred to inside grpc.aio: its place is free too, but its client may wait longer.

Good unary calls pay nothing for this: nothing is recorded about them, and the tasks are looked through every few seconds. In a
stream of answers each write has its own time. Sessions and watches keep it themselves, since they have more to end.
"""

import asyncio
import gc
import logging
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple, cast

from sidecar.rpc.places import REQUEST_S

logger = logging.getLogger(__name__)

ANSWER_S: Final = 10.0
"""How long a client may take to read an answer."""

STALLED_S: Final = 10.0
"""How long a client may not read the next answer of a stream."""

SWEEPS: Final = 3
"""By how many sweeps a call is seen before it is ended. Since the first of them, both the time for its request and the time for
its answer have passed."""

_Task = asyncio.Task[Any]


class UnreadAnswers:
    """Ends the calls of some methods that take too long.

    Args:
        methods: The full names, such as /package.Service/Method, of methods that answer one request once. They have to decide
            quickly, so that a call of them that isn't over after the time for its request and the time for its answer has a
            client that doesn't read.
    """

    def __init__(self, methods: Collection[str]) -> None:
        self._methods = methods
        self._seen: dict[_Task, int] = {}
        """By how many sweeps each call has been seen that wasn't over at the last one."""

    async def run(self) -> None:
        """Looks for such calls from time to time, until cancelled."""
        while True:
            await asyncio.sleep(max(REQUEST_S, ANSWER_S))
            self.sweep()

    def sweep(self) -> None:
        """Ends calls that have been seen too often."""
        calls = [call for call in _calls() if call.method in self._methods]
        self._seen = {call.handles: self._seen.get(call.handles, 0) + 1 for call in calls}
        unread = [call for call in calls if self._seen[call.handles] >= SWEEPS]
        for call in unread:
            call.end()
        if unread:
            logger.warning("ended calls whose client doesn't read the answer", extra={"calls": len(unread)})


class BoundedWrites:
    """The context of a call that streams its answers: ends the call if the client doesn't read one of them within a time."""

    def __init__(self, context: Any, method: str) -> None:
        self._context = context
        self._method = method

    def __getattr__(self, name: str) -> Any:
        """Returns what else a context has."""
        return getattr(self._context, name)

    async def write(self, answer: object) -> None:
        """Sends an answer."""
        handler = cast(_Task, asyncio.current_task())
        stall = asyncio.get_running_loop().call_later(STALLED_S, self._cut, handler)
        try:
            await self._context.write(answer)
        finally:
            stall.cancel()

    def _cut(self, handler: _Task) -> None:
        about = {"method": self._method, "peer": self._context.peer()}
        logger.warning("cut a stream of answers whose client doesn't read", extra=about)
        end_call(handler)


class _Call(NamedTuple):
    """The tasks of a call in grpc.aio."""

    method: str
    handles: _Task
    waits: _Task

    def end(self) -> None:
        self.handles.cancel()
        self.waits.cancel()


def end_call(task: _Task) -> None:
    """Ends the call whose handler runs in a task."""
    for call in _calls():
        if call.handles is task:
            call.end()


def _calls() -> Iterator[_Call]:
    """Yields the calls in progress of all servers on this loop."""
    for waits in asyncio.all_tasks():
        if waits.get_name() == "rpc_task":
            for scope in gc.get_referents(waits.get_coro()):
                for handles in gc.get_referents(scope):
                    if isinstance(handles, asyncio.Task):
                        yield _Call(handles.get_name().removeprefix("HandleExceptions[")[:-1], handles, waits)
