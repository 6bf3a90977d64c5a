"""How SIGTERM and Ctrl-C reach the server: as two events, one for each signal."""

import asyncio
import signal
from typing import Final, Self

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Handles the signals while its block runs, and restores the previous handlers at the end."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        """Set by the first signal: stop, but finish the work in progress."""
        self.second = asyncio.Event()
        """Set by the second signal: stop at once."""

    def __enter__(self) -> Self:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
