"""What is wrong with a source: says once that it is lost and why, and once that it works again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)


class Outages:
    """The outages of one source. One thread changes it, any may look."""

    def __init__(self, source: str, stream_name: str = "", clock: Callable[[], float] = time.time) -> None:
        """Takes names for the log, without secrets, and a clock that returns Unix seconds."""
        self.working = False
        """Whether frames have arrived, and nothing has failed since."""
        self.problem = ""
        """Why it is lost; empty if it isn't."""
        self.last_problem = ""
        self.last_problem_at = 0.0
        """Unix seconds, as the next."""
        self.since = clock()
        """When it began to work, or was lost."""
        self._clock = clock
        self.about: Mapping[str, str] = {"camera": source, **({"stream": stream_name} if stream_name else {})}

    def lost(self, reason: str) -> None:
        """Notes that the source can't be opened, or sends nothing more."""
        if not self.problem:
            logger.warning("the camera is lost; retrying", extra={**self.about, "reason": reason})
            self.since = self._clock()
        self.working = False
        self.problem = self.last_problem = reason
        self.last_problem_at = self._clock()

    def works(self) -> None:
        """Notes that a frame has arrived."""
        if self.working:
            return
        if self.problem:
            logger.info("the camera works again", extra=self.about)
        self.working, self.problem = True, ""
        self.since = self._clock()
