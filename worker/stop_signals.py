"""Turns SIGTERM, SIGINT and SIGHUP into an event that a command waits for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_END = b"\0"
"""Ends the thread; no signal has this number."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_INIT_PID = 1
_ENDED_BY = 128
"""What shells and container engines add to the number of the signal that ended a process."""


def end_at_signals() -> None:
    """Makes signals end the first process of a container, which the kernel otherwise protects from those without a handler."""
    if os.getpid() == _INIT_PID:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _end)


def _end(number: int, _frame: object = None) -> None:
    os._exit(_ENDED_BY + number)


@contextmanager
def stop_signals(done: threading.Event, *, patient: bool = False) -> Iterator[threading.Event]:
    """Sets `done` at SIGTERM, SIGINT or SIGHUP. For the main thread.

    Python runs signal handlers in the main thread, between two bytecodes. A signal that arrives while that thread is
    entering a wait, or that reaches another thread, isn't handled until the wait is over. Nor can a handler set the
    event, because the main thread may hold the event's lock. So another thread sets it: the interpreter writes the
    number of each signal to a pipe as soon as it arrives, in whichever thread.

    Args:
        done: set by a signal.
        patient: ignore further signals, for a process that has children to stop; otherwise the second signal has its
            usual effect and ends the process at once.

    Yields:
        An event that only signals set.
    """
    signalled = threading.Event()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def announce() -> None:
        while (number := os.read(read_end, 1)) != _END:
            if number[0] in before:
                if first_process and signalled.is_set() and not patient:
                    _end(number[0])
                signalled.set()
                done.set()

    first_process = os.getpid() == _INIT_PID
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]

    def stop(_number: int, _frame: object) -> None:
        if not patient and not first_process:  # which the kernel protects from signals without a handler
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
