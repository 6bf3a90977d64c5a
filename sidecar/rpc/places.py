"""The places for open calls, and who loses one: a call whose request doesn't arrive.

gRPC's own bound counts a call from its first header on, so as many half-sent calls as there are places would keep all
others out. Here they make room: if a call comes and no place is free, the call that has waited longest for its request
loses its place. The request of a healthy client arrives with the call's headers or moments later, so it
never loses its place. As long as no place is needed, a call may be half-sent for REQUEST_S.

So at most as many requests as there are places are in memory, whole or in part.
"""

import asyncio
from time import monotonic
from typing import Any, Final

import grpc

REQUEST_S: Final = 10.0
"""How long the request of a call, or the first of a session, may take to arrive. The largest needs 7 Mbit/s."""

MAX_ENDING: Final = 100
"""How many calls more than there are places gRPC has to accept: those that are being refused, and those whose answer is being
sent. Their requests aren't in memory."""

Context = grpc.aio.ServicerContext[Any, Any]


LATE: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the request hadn't arrived when another call needed the place")
"""How a call ends whose place was needed."""


class Places:
    """The places of a server.

    ``taken``, ``waiting`` and ``timer`` are changed by the guard itself, since a method for each would cost every call
    more time than what it does.

    Args:
        most: how many calls may be open.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        """The open calls, from their headers to their answers."""
        self.waiting: dict[Context, float] = {}
        """When each call that has no request yet began to wait for it, seconds by the monotonic clock; the longest first.

        A call that was ended because of that isn't here any more, so its reader finds out.
        """
        self.timer: asyncio.TimerHandle | None = None
        """Runs while calls wait. One serves all calls, because a time-out for each would cost more than its decision."""
        self._ending: set[asyncio.Task[None]] = set()

    async def make_room(self, context: Context) -> None:
        """Ends the call that has waited longest for its request; if none waits, the new one."""
        oldest = next(iter(self.waiting), None)
        if oldest is None:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {self.most} calls may be open")
        else:
            self._end(oldest, *LATE)

    def wait(self, context: Context) -> None:
        """Records that a call waits for a request from now on."""
        self.waiting[context] = monotonic()
        if self.timer is None:
            self.start_timer()

    def start_timer(self) -> None:
        """Has late calls ended, until none waits."""
        self.timer = asyncio.get_running_loop().call_later(REQUEST_S, self._end_late)

    def _end_late(self) -> None:
        late = monotonic() - REQUEST_S
        for context in [context for context, since in self.waiting.items() if since <= late]:
            message = f"the request didn't arrive within {REQUEST_S:g} s"
            self._end(context, grpc.StatusCode.DEADLINE_EXCEEDED, message)
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(REQUEST_S / 5, self._end_late) if self.waiting else None

    def _end(self, context: Context, status: grpc.StatusCode, message: str) -> None:
        del self.waiting[context]
        ending = asyncio.create_task(_abort(context, status, message))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _abort(context: Context, status: grpc.StatusCode, message: str) -> None:
    """Ends a call from outside of its handler, which gets the error too."""
    try:
        await context.abort(status, message)
    except grpc.aio.BaseError as error:  # or the call was over already
        error.__traceback__ = None  # the call keeps the error, and the error would keep the call
