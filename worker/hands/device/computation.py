"""A search for hands whose requests are answered later: it goes on when an answer comes, in whichever thread that is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic

from worker.hands.networks import Answer, Found, Request, Steps


class Computation(Generic[Found]):
    """Goes through steps. One thread at a time calls it, because it asks for one thing at a time."""

    def __init__(self, steps: Steps[Found], ask: Callable[[Request], None], end: Callable[[bool], None]) -> None:
        """Starts nothing yet.

        Args:
            steps: what asks, and returns what it found.
            ask: lets a request be answered, by a call of `go_on` or `fail`.
            end: called once, before the future is done, with whether the steps have found something; else they failed.
        """
        self._steps = steps
        self._ask = ask
        self._end = end
        self.found: Future[Found] = Future()

    def start(self) -> None:
        """Asks for the first time."""
        self._advance(lambda: next(self._steps))

    def go_on(self, answer: Answer) -> None:
        """Takes an answer and asks on, until it has found what it returns."""
        self._advance(lambda: self._steps.send(answer))

    def fail(self, error: Exception) -> None:
        """Ends with an error."""
        self._steps.close()
        self._end(False)
        self.found.set_exception(error)

    def _advance(self, step: Callable[[], Request]) -> None:
        try:
            self._ask(step())
        except StopIteration as end:
            self._end(True)
            self.found.set_result(end.value)
        except Exception as error:
            self.fail(error)
