import threading

from support.publishing import captured
from support.waiting import wait_until

from worker.publish.buffer import FrameBuffer


def test_a_live_buffer_keeps_the_newest() -> None:
    """A full buffer drops its oldest frame and counts it; the capture never waits."""
    buffer = FrameBuffer(3, drop_oldest=True)
    assert all(buffer.put(captured(index)) for index in range(5))
    buffer.close()
    assert [buffer.get().ts for _ in range(3)] == [2, 3, 4]
    assert buffer.get() is None
    assert buffer.dropped == 2


def test_a_film_waits() -> None:
    """A full buffer makes the capture wait until there is room; nothing is dropped."""
    buffer, put = FrameBuffer(2, drop_oldest=False), []
    thread = threading.Thread(target=lambda: [put.append(buffer.put(captured(index))) for index in range(4)])
    thread.start()
    wait_until(lambda: len(put) == 2)
    assert buffer.get().ts == 0
    wait_until(lambda: len(put) == 3)
    assert [buffer.get().ts for _ in range(3)] == [1, 2, 3]
    thread.join()
    assert put == [True] * 4
    assert buffer.dropped == 0


def test_closing_ends_all_waits() -> None:
    """Closing ends the wait of a capture for room, and of a sender for a frame."""
    full, empty, ends = FrameBuffer(1, drop_oldest=False), FrameBuffer(1, drop_oldest=True), []
    full.put(captured(0))
    threads = [
        threading.Thread(target=lambda: ends.append(full.put(captured(1)))),
        threading.Thread(target=lambda: ends.append(empty.get())),
    ]
    for thread in threads:
        thread.start()
    full.close(discard=True)
    empty.close()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == ["False", "None"]
    assert full.dropped == 1
    assert full.get() is None
