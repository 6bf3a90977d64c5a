"""Which deliveries are counted: sorts out what is invalid or old, asks about the rest, and keeps what can't be decided yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from handcounter.pacing.schedule import Reason
from worker.options import PipelineOptions
from worker.pipeline.dispatcher import Admitted
from worker.pipeline.limiter import Limiter
from worker.pipeline.undecided import Undecided, Waiting
from worker.queue.delivery import Dead, Delivery, Skipped, dead_letter, skipped
from worker.queue.frame import SKIP_OF_REASON, EntryError, Frame, SkipReason, parse_entry


@dataclass
class Verdicts:
    """What becomes of some deliveries."""

    new: list[Frame] = field(default_factory=list)
    """The valid frames that were never delivered before. Each delivery is in one of the other lists."""
    admitted: list[Admitted] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    undecided: list[Waiting] = field(default_factory=list)
    """They wait for the limit of their stream."""


class Decider:
    """Decides deliveries. The limiter does all I/O. For the reader's thread."""

    def __init__(self, limiter: Limiter, options: PipelineOptions) -> None:
        self._limiter = limiter
        self._options = options
        self._undecided = Undecided()

    @property
    def undecided(self) -> int:
        """How many deliveries wait for the limit of their stream."""
        return len(self._undecided)

    def decide(self, deliveries: Sequence[Delivery], now: float) -> Verdicts:
        """Decides deliveries. Neither stale nor invalid ones use up an admission.

        Args:
            deliveries: in the order of their entries.
            now: Redis' clock, Unix seconds.
        """
        verdicts = Verdicts()
        fresh = []
        oldest = now - self._options.max_age
        for delivery in deliveries:
            try:
                frame = parse_entry(delivery.entry_id, delivery.fields, delivery.arrived_at)
            except EntryError as error:
                verdicts.dead.append(dead_letter(delivery, error.reason, str(error)))
                continue
            if delivery.times_delivered == 1:
                verdicts.new.append(frame)
            if frame.live and frame.arrived_at < oldest:
                verdicts.skipped.append(skipped(frame, SkipReason.STALE))
            else:
                fresh.append((frame, delivery))
        self._divide(fresh, verdicts)
        self._undecided.add(verdicts.undecided)
        return verdicts

    def decide_waiting(self, now: float) -> Verdicts:
        """Decides what waits for the limit of its stream, if the sidecar can be asked; skips what waited for too long."""
        verdicts = Verdicts()
        for frame, _ in self._undecided.take_older(now - self._options.max_age):
            verdicts.skipped.append(skipped(frame, SkipReason.LIMIT_UNKNOWN))
        if not self._limiter.sidecar_unreachable:
            self._divide(self._undecided.take(), verdicts)
            self._undecided.add(verdicts.undecided)
        return verdicts

    def _divide(self, frames: Sequence[Waiting], verdicts: Verdicts) -> None:
        """Asks about frames.

        A frame that was delivered before was admitted then, and the sidecar would call it a duplicate. So it is counted
        unless its stream is paused.
        """
        new = [(frame.stream_name, frame.ts) for frame, delivery in frames if delivery.times_delivered == 1]
        old = [frame.stream_name for frame, delivery in frames if delivery.times_delivered != 1]
        wait = self._options.wait_for_limits
        decide: Callable[..., Sequence[Reason | None]] = self._limiter.decide_known if wait else self._limiter.decide
        reasons = iter(decide(new) if new else ())
        limits = iter(self._limiter.limits(old) if old else ())
        for frame, delivery in frames:
            if delivery.times_delivered == 1:
                reason = next(reasons)
            elif (limit := next(limits)) is None and wait:
                reason = None
            else:
                reason = Reason.PAUSED if limit == 0.0 else Reason.ADMITTED
            if reason is None:
                verdicts.undecided.append((frame, delivery))
            elif reason is Reason.ADMITTED:
                fps = self._limiter.told_fps(frame.stream_name)
                verdicts.admitted.append(Admitted(frame, delivery, float("inf") if fps is None else fps))
            else:
                verdicts.skipped.append(skipped(frame, SKIP_OF_REASON[reason]))
