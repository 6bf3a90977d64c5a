"""An annotated frame of the demo."""

from __future__ import annotations

from collections.abc import Sequence

from worker.demo.ledger import Counted, StreamLedger
from worker.hands.draw import annotate
from worker.picture import Picture
from worker.results import hands_of_objects


def annotated_frame(ledgers: Sequence[StreamLedger]) -> Picture | None:
    """Returns the counted frame with the right number of hands, the largest with the most of them, and the detections drawn.

    Returns None if none was counted.
    """
    counted = [(frame, ledger) for ledger in ledgers for frame in ledger.counted]
    if not counted:
        return None
    frame, ledger = max(counted, key=lambda pair: _rank(pair[0]))
    return annotate(ledger.source.picture(frame.ts), hands_of_objects(frame.result["hands"]))


def _rank(frame: Counted) -> tuple[bool, bool, int, int, int, float]:
    """Returns the sort key: frames with the right number of hands, with any, large, with most hands, both sides, sure ones."""
    hands = frame.result["hands"]
    sides = len({hand["is_right"] for hand in hands})
    surest = min((hand["score"] for hand in hands), default=0.0)
    right, any_hands = frame.counted_hands == frame.true_hands, frame.counted_hands > 0
    return right, any_hands, frame.result["image"]["width"], frame.counted_hands, sides, surest
