"""How SIGTERM and Ctrl-C reach a command."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_END = b"\0"
"""No signal has this number."""


@contextmanager
def stop_signals(done: threading.Event, *, patient: bool = False) -> Iterator[threading.Event]:
    """Lets SIGTERM, SIGINT and SIGHUP set `done`.

    The second one has its usual effect, and ends the process at once; unless it is patient, because it has children to
    stop. Gives an event that is set by signals alone. For the main thread.

    Python's handlers run in the main thread, between two of its steps. One that arrives while that thread is on its way
    into a wait, or reaches another thread, is not seen until the wait ends by itself; and a handler can't set the event
    itself, whose lock the main thread may hold. So a thread of its own sets it: the interpreter writes the number of
    each signal to a pipe as soon as it arrives, wherever that is.
    """
    signalled = threading.Event()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def announce() -> None:
        while (number := os.read(read_end, 1)) != _END:
            if number[0] in before:
                signalled.set()
                done.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]

    def stop(_number: int, _frame: object) -> None:
        if not patient:
            for each in before:
                signal.signal(each, signal.SIG_DFL)

    announcer = threading.Thread(target=announce, name="stop-signals", daemon=True)
    announcer.start()
    wakeup_before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in before:
        signal.signal(number, stop)
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.write(write_end, _END)
        announcer.join()
        os.close(read_end)
        os.close(write_end)
