"""How SIGTERM and Ctrl-C reach a command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(done: threading.Event, *, patient: bool = False) -> Iterator[threading.Event]:
    """Lets SIGTERM, SIGINT and SIGHUP set `done`.

    The second one has its usual effect, and ends the process at once; unless it is patient, because it has children to
    stop. Gives an event that is set by signals alone.
    """
    signalled = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]

    def stop(_number: int, _frame: object) -> None:
        if not patient:
            for each in before:
                signal.signal(each, signal.SIG_DFL)
        signalled.set()
        done.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
