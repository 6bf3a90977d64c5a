"""How a process ends whose threads may be in calls that can't be interrupted."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger(__name__)

ENDS_S: Final = 0.7
"""Seconds after which a process that was asked to end does, whatever it is busy with: less than the second that is promised."""


def end_process(code: int) -> int:
    """Ends the process at once, without waiting for its threads: FFmpeg may wait for a camera until its time-out."""
    logging.shutdown()
    os._exit(code)


@contextmanager
def ends_in_time(asked: threading.Event, seconds: float = ENDS_S) -> Iterator[None]:
    """Ends the process with exit code 0 if the block hasn't ended some seconds after `asked` was set.

    The main thread may be busy when a signal arrives, such as with a long list of cameras.
    """
    over = threading.Event()

    def watch() -> None:
        asked.wait()
        if not over.wait(seconds):
            logger.warning("ending before everything has stopped")
            end_process(0)

    threading.Thread(target=watch, name="ends-in-time", daemon=True).start()
    try:
        yield
    finally:
        over.set()
