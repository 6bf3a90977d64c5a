"""Which deliveries wait for the limit of their stream, and what becomes of them."""

from worker.pipeline.undecided import Undecided, Waiting
from worker.queue.delivery import Delivery
from worker.queue.frame import parse_entry


def delivery(number: int, arrived_at: float) -> Waiting:
    """A delivery of a frame that arrived at this time."""
    fields = {b"stream_name": b"cam", b"ts": b"1", b"frame_key": b"key"}
    entry_id = f"{number}-0"
    return parse_entry(entry_id, fields, arrived_at), Delivery(entry_id, fields, 1, arrived_at)


def test_all_are_taken_in_their_order() -> None:
    """Later ones behind earlier ones; then none wait."""
    undecided = Undecided()
    first, second, third = (delivery(number, 10.0) for number in range(3))
    undecided.add([first, second])
    undecided.add([third])
    assert len(undecided) == 3
    assert undecided.take() == [first, second, third]
    assert undecided.take() == []
    assert not undecided


def test_those_that_waited_for_too_long_are_taken_alone() -> None:
    """Whatever their place; one of exactly that age still waits."""
    undecided = Undecided()
    young, old, limit = delivery(1, 11.0), delivery(2, 9.9), delivery(3, 10.0)
    undecided.add([young, old, limit])
    assert undecided.take_older(10.0) == [old]
    assert undecided.take_older(10.0) == []
    assert undecided.take() == [young, limit]


def test_pictures_inside_entries_are_given_up() -> None:
    """They would take the memory of frames that can be counted. The rest of the entry stays."""
    undecided = Undecided()
    fields = {b"stream_name": b"cam", b"ts": b"1", b"frame": b"picture"}
    undecided.add([(parse_entry("1-0", fields), Delivery("1-0", fields, 1))])
    ((frame, delivery),) = undecided.take()
    assert (frame.frame_key, frame.payload) == (None, None)
    assert delivery == Delivery("1-0", {b"stream_name": b"cam", b"ts": b"1"}, 1)
