import asyncio
import contextlib

from console.web.feed.tasks import end_tasks


async def test_a_task_that_loses_a_cancellation_ends():
    """As one in asyncio.wait_for may, when what it waits for comes at the same moment."""
    lost = 0

    async def loses_two() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(loses_two())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task]), 30)
    assert task.cancelled()
    assert lost == 3


async def test_tasks_that_have_ended_or_fail_are_no_matter():
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("on its way out")

    async def nothing() -> None:
        pass

    ended, failing = asyncio.create_task(nothing()), asyncio.create_task(fails())
    await ended
    await end_tasks([ended, failing])
    with contextlib.suppress(OSError):
        failing.result()
    await end_tasks([])
