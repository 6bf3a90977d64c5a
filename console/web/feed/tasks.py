"""How tasks of the feed end."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

AGAIN_S: Final = 0.2


async def end_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels tasks until they have ended.

    Once isn't enough: if what a task waits for is there at the same moment, ``asyncio.wait_for`` returns it and drops the
    cancellation (until Python 3.12, https://github.com/python/cpython/issues/86296), and the task would go on for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
