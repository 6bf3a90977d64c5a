"""How SIGTERM and Ctrl-C reach a command."""

from __future__ import annotations

import queue as queues
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(done: threading.Event, *, patient: bool = False) -> Iterator[threading.Event]:
    """Lets SIGTERM, SIGINT and SIGHUP set `done`.

    The second one has its usual effect, and ends the process at once; unless it is patient, because it has children to
    stop. Gives an event that is set by signals alone.

    A handler runs in the main thread, between any two steps of it. It can't set an event by itself: the event's lock isn't
    reentrant, and the main thread may hold it, being about to wait. So it tells a thread, by the one queue whose put() may
    interrupt itself.
    """
    signalled = threading.Event()
    arrived: queues.SimpleQueue[bool] = queues.SimpleQueue()

    def announce() -> None:
        if arrived.get():
            signalled.set()
            done.set()

    announcer = threading.Thread(target=announce, name="stop-signals", daemon=True)
    announcer.start()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]

    def stop(_number: int, _frame: object) -> None:
        if not patient:
            for each in before:
                signal.signal(each, signal.SIG_DFL)
        arrived.put(True)

    for number in before:
        signal.signal(number, stop)
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.put(False)
        announcer.join()
