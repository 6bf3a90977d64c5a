"""How sessions end: too many of them, the last one, a shutdown, a client that doesn't read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from support.clients.sessions import Call, Served, serving
from support.waiting import DEADLINE_S

from handcounter.pacing.bounds import MAX_BATCH
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc import session
from sidecar.rpc.session import MAX_UNSENT


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yields a server that accepts three sessions."""
    async with serving() as served:
        yield served


async def test_only_so_many_sessions(served: Served) -> None:
    """One more is refused; when one has ended, there is room again."""
    calls = [Call(served) for _ in range(3)]
    for call in calls:
        await call.ask()
    refused = Call(served)
    code, details = await refused.end()
    assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 3 sessions may be open")
    calls[0].call.cancel()
    await served.until("sidecar_sessions", 2)
    assert len((await Call(served).ask(("a", 1.0))).reasons) == 1


async def test_open_sessions_are_in_the_book_of_leases(served: Served) -> None:
    """A session is in it from its start to its end, so that changes cost nothing without sessions."""
    holders = served.world.leases.holders
    assert holders == []
    first, second = Call(served), Call(served)
    await first.ask()
    await second.ask()
    assert len(holders) == 2
    first.call.cancel()
    await served.until("sidecar_sessions", 1)
    assert len(holders) == 1
    second.call.cancel()
    await served.until("sidecar_sessions", 0)
    assert holders == []


async def test_at_shutdown_sessions_end_and_new_ones_are_refused(served: Served) -> None:
    """They end with UNAVAILABLE, like those of a lost sidecar, after pending requests were answered."""
    call = Call(served)
    await call.ask(("a", 1.0))
    served.sessions.shut_down()
    assert await call.end() == (grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
    assert (await Call(served).end())[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_request_in_progress_at_shutdown_is_answered(served: Served) -> None:
    """Otherwise its admitted frames would be lost."""
    deciding, redis_answers = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        deciding.set()
        await redis_answers.wait()

    served.world.meanwhile = answer
    call = Call(served)
    await call.send(("a", 1.0))
    await deciding.wait()
    served.sessions.shut_down()
    assert (await Call(served).end())[0] is grpc.StatusCode.UNAVAILABLE  # so the shutdown has been noticed
    redis_answers.set()
    assert list((await call.next()).answers.should_process) == [True]
    assert await call.end() == (grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")


async def test_a_client_that_does_not_read_is_cut() -> None:
    """After a while it gets no more revocations; it occupies its place until it reads and learns of the end."""
    async with serving(max_sessions=1, stalled_s=0.5) as served:
        call = Call(served)
        frames = [(f"{number % 100}", 1.0) for number in range(MAX_BATCH)]
        await call.send(*frames)  # the answer is larger than what HTTP/2 buffers for a client that doesn't read
        await served.until("sidecar_sessions", 1)
        await served.until("sidecar_sessions", 0)
        assert served.world.leases.holders == []
        assert await Call(served).end() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 1 sessions may be open")
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.call.read() is not grpc.aio.EOF:
                pass
        assert await call.end() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "the client doesn't read")
        assert (await Call(served).ask(("a", 1.0))).should_process == [True]


async def test_a_client_that_never_reads_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after it was cut, though no status can be sent to it."""
    monkeypatch.setattr(session, "ANSWER_S", 0.1)
    async with serving(max_sessions=1, stalled_s=0.1) as served:
        call = Call(served)
        await call.send(*[(f"{number % 100}", 1.0) for number in range(MAX_BATCH)])
        await served.until("sidecar_sessions", 1)
        await served.until("sidecar_sessions", 0)
        answers = None
        async with asyncio.timeout(DEADLINE_S):
            while answers is None:
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    answers = await Call(served).ask(("a", 1.0))
        assert not call.call.done()  # it hasn't learnt of the end
        call.call.cancel()


async def test_requests_wait_while_answers_do() -> None:
    """For a client that asks without reading, a bounded number of requests is decided; then it is cut."""
    async with serving(stalled_s=0.5) as served:
        call = Call(served)
        names = [f"{number % 100:0200}" for number in range(MAX_BATCH)]
        question = pb.ShouldProcessSessionRequest(stream_names=names, ts=[1.0] * len(names))

        async def flood() -> None:
            while True:
                await call.call.write(question)

        flooding = asyncio.create_task(flood())
        await served.until("sidecar_sessions", 1)
        await served.until("sidecar_sessions", 0)
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.call.read() is not grpc.aio.EOF:
                pass
        assert call.call.done()  # as soon as it reads, it learns that the session is over
        await asyncio.gather(flooding, return_exceptions=True)
        assert served.metric("sidecar_batch_frames_count") < 10 * MAX_UNSENT
