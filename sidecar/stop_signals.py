"""How SIGTERM, Ctrl-C and SIGHUP (a closed terminal) reach the server: as two events, one for each signal."""

import asyncio
import signal
from typing import Final, Self

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Handles the signals while its block runs, and restores the previous handlers at the end."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        """Set by the first signal: stop, but finish the work in progress."""
        self.second = asyncio.Event()
        """Set by the second signal: stop at once."""
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> Self:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
        self._handled = [number for number in SIGNALS if not (number is signal.SIGHUP and ignored)]
        for number in self._handled:
            asyncio.get_running_loop().add_signal_handler(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._handled:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
