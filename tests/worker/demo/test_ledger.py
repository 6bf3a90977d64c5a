import json
import threading

from worker.demo.annotate import annotated_frame
from worker.demo.ledger import StreamLedger
from worker.demo.plan import DemoCamera, Limit
from worker.publish.simulated import SimulatedCamera
from worker.publish.thinning import Unlimited
from worker.synthetic.spec import SyntheticSpec

START = 1_700_000_000.0
HAND = {"box": [10.0, 20.0, 110.0, 180.0], "is_right": True, "score": 0.9, "keypoints": None}


def ledger(hands: int = 2) -> StreamLedger:
    """Returns the ledger of a camera that always shows this many hands; its first frame is at START."""
    source = SimulatedCamera(
        SyntheticSpec(fps=10.0, hands=(hands, hands)), lambda _: b"", paced=True, clock=lambda: START
    )
    next(source.frames(threading.Event(), Unlimited()))
    return StreamLedger(DemoCamera("cam1", 10.0), source)


def result(ts: float, hand_count: int) -> bytes:
    """Returns a result with the fields that the demo reads."""
    return json.dumps(
        {"ts": ts, "image": {"width": 640, "height": 480}, "hand_count": hand_count, "hands": [HAND] * hand_count}
    ).encode()


def test_a_phase_is_an_interval_of_the_frames_clock() -> None:
    """A phase has the frames from its start, inclusive, to its end, exclusive, whatever the order of their results."""
    stream = ledger()
    stream.published = [START + index / 10 for index in range(40)]
    for tenths, hand_count in ((25, 3), (5, 2), (30, 2), (10, 2), (20, 1)):
        stream.add_result(result(START + tenths / 10, hand_count))
    row = stream.row(4, Limit(2.0, "*"), START + 1.0, START + 3.0)
    assert (row.phase, row.stream_name, row.configured, row.set_by, row.seconds) == (4, "cam1", 2.0, "*", 2.0)
    assert (row.published, row.counted, row.skipped) == (20, 3, 17)
    assert (row.true_hands, row.counted_hands, row.right) == (6, 6, 1)


def test_the_annotated_frame_is_a_right_one() -> None:
    """A counted frame with the true number of hands is annotated; without counted frames there is none."""
    wrong, right = ledger(hands=1), ledger(hands=2)
    assert annotated_frame([wrong, right]) is None
    wrong.add_result(result(START + 1.0, 3))
    right.add_result(result(START + 1.0, 2))
    picture = annotated_frame([wrong, right])
    drawn = picture != right.source.picture(START + 1.0)
    assert picture.shape == (480, 640, 3)
    assert drawn[20:180, 10:110].any()
