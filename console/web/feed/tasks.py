"""How tasks of the feed end."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

AGAIN_S: Final = 0.2


async def end_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels tasks until they have ended.

    Once isn't enough: a library may drop a cancellation, as ``asyncio.wait_for`` does until Python 3.12 if what it waits for
    comes at the same moment (https://github.com/python/cpython/issues/86296), or answer it with an error of its own, which
    the task takes for a failure and goes on.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
