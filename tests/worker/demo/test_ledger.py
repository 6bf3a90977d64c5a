import json
import threading

from support.publishing import captured

from worker.demo.annotate import annotated_frame, hands_of
from worker.demo.ledger import NotingQueue, StreamLedger
from worker.demo.plan import DemoCamera, Limit
from worker.publish.film import DrawnCamera
from worker.synthetic.spec import SyntheticSpec

START = 1_700_000_000.0
HAND = {"box": [10.0, 20.0, 110.0, 180.0], "is_right": True, "score": 0.9, "keypoints": None}


def ledger(hands: int = 2) -> StreamLedger:
    """The ledger of a camera that always shows so many hands, switched on at the start."""
    source = DrawnCamera(SyntheticSpec(fps=10.0, hands=(hands, hands)), lambda _: b"", paced=True, clock=lambda: START)
    next(source.frames(threading.Event()))
    return StreamLedger(DemoCamera("cam1", 10.0), source)


def result(ts: float, hand_count: int) -> bytes:
    """A result as the worker writes it, as far as it is read."""
    return json.dumps({"ts": ts, "hand_count": hand_count, "hands": [HAND] * hand_count}).encode()


def test_a_phase_is_a_stretch_of_the_frames_clock() -> None:
    """Frames count for a phase from its start up to but not at its end, whatever the order of their results."""
    stream = ledger()
    stream.published = [START + index / 10 for index in range(40)]
    for tenths, hand_count in ((25, 3), (5, 2), (30, 2), (10, 2), (20, 1)):
        stream.add_result(result(START + tenths / 10, hand_count))
    row = stream.row(4, Limit(2.0, "*"), START + 1.0, START + 3.0)
    assert (row.phase, row.stream_name, row.configured, row.set_by, row.seconds) == (4, "cam1", 2.0, "*", 2.0)
    assert (row.published, row.counted, row.skipped) == (20, 3, 17)
    assert (row.true_hands, row.counted_hands, row.right) == (6, 6, 1)


def test_only_what_was_published_is_noted() -> None:
    """A frame that was given up is not on the ledger."""

    class Fussy:
        def publish(self, frame: object, _: object) -> bool:
            return frame.ts != 2.0

    stream = ledger()
    queue = NotingQueue(Fussy(), stream)
    assert [queue.publish(captured(0, ts), threading.Event()) for ts in (1.0, 2.0, 3.0)] == [True, False, True]
    assert stream.published == [1.0, 3.0]


def test_the_annotated_frame_is_one_that_was_right() -> None:
    """Of all counted frames one with the true number of hands is drawn on; without any there is no picture."""
    wrong, right = ledger(hands=1), ledger(hands=2)
    assert annotated_frame([wrong, right]) is None
    wrong.add_result(result(START + 1.0, 3))
    right.add_result(result(START + 1.0, 2))
    picture = annotated_frame([wrong, right])
    drawn = picture != right.source.picture(START + 1.0)
    assert picture.shape == (480, 640, 3)
    assert drawn[20:180, 10:110].any()
    assert len(hands_of(right.counted[0])) == 2
