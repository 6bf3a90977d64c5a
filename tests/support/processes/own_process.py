"""Keeps the process that runs the tests alive: what would end it fails the test that called it, by name.

With pytest-xdist the end of that process is told as "node down", without a word about the test, and may leave the run waiting.
Tests send signals to their own process, and some code exits it: a signal that arrives before a handler is there, or after it
is gone, and an exit that a slow machine brings about, are refused here before they have an effect.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

_ENDING_BY_DEFAULT: Final = (signal.SIG_DFL, signal.default_int_handler)
_HARMLESS: Final = (0, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
_CATCHES_NOTHING: Final = (signal.SIGKILL, signal.SIGSTOP)
_ENDS_THE_RUN: Final = ("execnet", "xdist", "pytest_timeout")
"""Packages that may: when the controller is gone, or a test has hung."""

refused: list[str] = []
"""What was refused, since an exception in a thread or in a handler may go unnoticed."""


def would_end(number: int) -> bool:
    """Returns whether a signal to this process would end or stop it, as handlers are now."""
    return number not in _HARMLESS and (number in _CATCHES_NOTHING or signal.getsignal(number) in _ENDING_BY_DEFAULT)


def protect(patch: pytest.MonkeyPatch) -> None:
    """Refuses, in this process and not in forks of it, what would end it."""
    own = os.getpid()

    def refuse(what: str) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "outside of a test")
        refused.append(f"{what} ({test})")
        raise AssertionError(f"{what}, which would end the process that runs the tests")

    def permitted() -> bool:
        caller = sys._getframe(2).f_globals.get("__name__", "")
        return os.getpid() != own or caller.partition(".")[0] in _ENDS_THE_RUN

    def guarded(real: Callable[..., Any], what: Callable[..., str]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not permitted() and (reason := what(*arguments)):
                refuse(reason)
            return real(*arguments)

        return call

    def signalled(number: int) -> str:
        return f"{signal.Signals(number).name} without a handler" if would_end(number) else ""

    def to_process(process: int, number: int) -> str:
        return signalled(number) if process in (own, 0, -1, -os.getpgrp()) else ""

    def to_group(group: int, number: int) -> str:
        return signalled(number) if group in (0, os.getpgrp()) else ""

    for module, name, what in (
        (os, "kill", to_process),
        (os, "killpg", to_group),
        (os, "_exit", lambda code: f"os._exit({code})"),
        (os, "abort", lambda: "os.abort()"),
        (signal, "raise_signal", signalled),
        (signal, "pthread_kill", lambda _thread, number: signalled(number)),
    ):
        patch.setattr(module, name, guarded(getattr(module, name), what))
    # A program's main would lead the trace of a crash to the descriptor 2 of its test, where nobody sees it.
    patch.setattr(faulthandler, "enable", lambda *_: None)


def tell_signals_from_others(error: int) -> None:
    """Writes the stacks to a descriptor when another process ends this one by a signal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup it isn't
            faulthandler.unregister(number)
            faulthandler.register(number, error, chain=True)
