"""How frames reach the decoding threads, with payloads in memory whose replies a test delays."""

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from support.waiting import wait_until

from worker.metrics import Metrics
from worker.pipeline.dispatcher import Admitted, Dispatcher
from worker.queue.commands import QueueError, QueueUnreachableError
from worker.queue.delivery import DEAD_FIELD_BYTES, Dead, Delivery, Settled, Skipped
from worker.queue.frame import DeadReason, EntryError, Frame, SkipReason

NOW = 1000.0


class Payloads:
    """The payloads of all keys; notes what was asked for. The first fetches fail, as many as `failures`."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.failures = 0
        self.unreachable: set[bytes] = set()
        """Keys of a partition that can't be reached, unlike the others."""

    def now(self) -> float:
        return NOW

    def payloads(self, keys: Sequence[bytes]) -> list[bytes | EntryError | QueueError | None]:
        self.asked.append(list(keys))
        if self.failures:
            self.failures -= 1
            raise QueueUnreachableError("no reply")
        special: dict[bytes, bytes | EntryError | QueueError | None] = {
            key: QueueUnreachableError("no reply") for key in self.unreachable
        }
        special |= {b"gone": None, b"odd": EntryError(DeadReason.BAD_FRAME_KEY, "a list")}
        return [special.get(key, b"picture of " + key) for key in keys]

    def inline_payloads(self, entry_ids: Sequence[str]) -> list[bytes | None]:
        return [None if entry_id.startswith("gone") else entry_id.encode() + b" again" for entry_id in entry_ids]

    @property
    def fetched(self) -> list[bytes]:
        return [key for keys in self.asked for key in keys]


def frame(name: str, number: int = 0, *, age: float = 0.0, live: bool = True, key: bytes | None = None) -> Admitted:
    """An admitted frame; with an empty key its picture is inside the entry."""
    entry_id = f"{name}-{number}"
    payload = b"inline" if key == b"" else None
    its = Frame(entry_id, name, float(number), None if payload else key or entry_id.encode(), payload, NOW - age, live)
    return Admitted(its, Delivery(entry_id, {}, 1), 5.0)


class Parts:
    """A dispatcher and its neighbours."""

    def __init__(self, threads: int = 1, max_age: float = 10.0) -> None:
        self.queue = Payloads()
        self.settled: list[Settled] = []
        self.dispatcher = Dispatcher(
            self.queue,  # type: ignore[arg-type]
            self.settled.append,
            Metrics(),
            threads=threads,
            max_age=max_age,
        )

    @contextmanager
    def running(self) -> Iterator[ThreadPoolExecutor]:
        """Runs its thread; yields a pool for decoding threads."""
        thread = threading.Thread(target=self.dispatcher.run)
        thread.start()
        with ThreadPoolExecutor() as pool:
            try:
                yield pool
            finally:
                self.dispatcher.stop()
        thread.join(60.0)
        assert not thread.is_alive()

    def jobs(self, number: int) -> list[str]:
        """Takes so many jobs; returns their entries."""
        jobs = [self.dispatcher.next_job() for _ in range(number)]
        return [job.frame.entry_id for job in jobs if job]


def test_one_picture_is_fetched_ahead() -> None:
    """Not more, so that newer frames can supersede the others, whose pictures are never fetched."""
    parts = Parts()
    with parts.running():
        parts.dispatcher.put([frame("a"), frame("b"), frame("c")])
        wait_until(lambda: parts.queue.fetched == [b"a-0"])
        superseded = parts.dispatcher.put([frame("b", 1), frame("c", 1), frame("a", 1)])
        assert [each.entry_id for each in superseded] == ["b-0", "c-0"]
        assert parts.jobs(4) == ["a-0", "b-1", "c-1", "a-1"]
    assert parts.queue.fetched == [b"a-0", b"b-1", b"c-1", b"a-1"]
    assert parts.settled == []


def test_idle_threads_get_their_pictures_at_once() -> None:
    """As many in one round trip as there are idle threads, and some ahead."""
    parts = Parts(threads=4)
    with parts.running() as pool:
        idle = [pool.submit(parts.jobs, 1) for _ in range(3)]
        wait_until(lambda: parts.dispatcher._idle == 3)
        parts.dispatcher.put([frame(name) for name in "abcdefgh"])
        assert sorted(each.result(60.0)[0] for each in idle) == ["a-0", "b-0", "c-0"]
    assert parts.queue.asked[0] == [b"a-0", b"b-0", b"c-0", b"d-0", b"e-0"]


@pytest.mark.parametrize(("waiting", "wanted"), [(0, 8), (1, 7), (4, 4), (5, 4), (7, 4), (8, 0), (9, 0)])
def test_frames_are_wanted_while_few_wait(waiting: int, wanted: int) -> None:
    """Two for each thread may wait; if there is room for any, a read brings one for each thread at least."""
    parts = Parts(threads=4)
    parts.dispatcher.put([frame(f"camera-{number}") for number in range(waiting)])
    assert parts.dispatcher.wanted == wanted


def test_whoever_waits_for_room_gets_it_when_a_frame_leaves() -> None:
    """Or when the time is over."""
    parts = Parts(threads=1)
    parts.dispatcher.put([frame("a"), frame("b"), frame("c")])
    assert len(parts.dispatcher) == 3
    parts.dispatcher.wait_for_room(0.001)
    assert not parts.dispatcher.wanted
    with parts.running():
        assert parts.jobs(1) == ["a-0"]
        parts.dispatcher.wait_for_room(60.0)
        assert parts.dispatcher.wanted


@pytest.mark.parametrize("max_age", [10.0, math.inf])
def test_a_frame_that_grew_too_old_is_skipped(max_age: float) -> None:
    """When its turn comes, without its picture. A film's isn't, nor is any with an infinite --max-age."""
    parts = Parts(max_age=max_age)
    parts.dispatcher.put([frame("old", age=11.0), frame("film", age=99.0, live=False), frame("new", age=9.0)])
    with parts.running():
        if max_age == math.inf:
            assert sorted(parts.jobs(3)) == ["film-0", "new-0", "old-0"]
        else:
            assert parts.jobs(2) == ["new-0", "film-0"]
            assert parts.settled == [Skipped("old-0", SkipReason.STALE, "old", b"old-0")]
            assert b"old-0" not in parts.queue.fetched


def test_with_an_infinite_max_age_nothing_is_superseded() -> None:
    """Live frames wait in a row, too."""
    parts = Parts(max_age=math.inf)
    assert parts.dispatcher.put([frame("a", 0), frame("a", 1)]) == []
    with parts.running():
        assert parts.jobs(2) == ["a-0", "a-1"]


def test_an_older_frame_supersedes_nothing() -> None:
    """One that is delivered again comes behind newer ones of its stream."""
    parts = Parts()
    assert parts.dispatcher.put([frame("a", 2, age=1.0)]) == []
    assert [each.entry_id for each in parts.dispatcher.put([frame("a", 1, age=5.0)])] == ["a-1"]


def test_a_frame_without_a_picture_ends_here() -> None:
    """As expired, or dead-lettered if its key holds something else; a picture inside the entry needs no fetch."""
    parts = Parts()
    parts.dispatcher.put([frame("a", key=b"gone"), frame("b", key=b"odd"), frame("c", key=b"")])
    with parts.running():
        job = parts.dispatcher.next_job()
    assert job is not None
    assert (job.frame.entry_id, job.payload) == ("c-0", b"inline")
    assert [each.reason for each in parts.settled if isinstance(each, Skipped)] == [SkipReason.PAYLOAD_EXPIRED]
    assert [each.reason for each in parts.settled if isinstance(each, Dead)] == [DeadReason.BAD_FRAME_KEY]
    assert parts.queue.fetched == [b"gone", b"odd"]


def test_a_picture_inside_an_entry_is_in_the_job_alone() -> None:
    """So its memory goes when it is decoded; the delivery has what a dead letter keeps of it."""
    parts = Parts()
    fields = {b"stream_name": b"a", b"frame": b"inline" * 1000}
    inline = replace(frame("a", key=b"").frame, payload=fields[b"frame"])
    parts.dispatcher.put([Admitted(inline, Delivery("a-0", fields, 1), 5.0)])
    with parts.running():
        job = parts.dispatcher.next_job()
    assert job is not None
    assert job.payload == fields[b"frame"]
    assert job.frame == replace(inline, payload=None)
    assert job.delivery.fields == {b"stream_name": b"a", b"frame": (b"inline" * 1000)[:DEAD_FIELD_BYTES]}


def test_a_picture_that_was_given_up_is_fetched_again() -> None:
    """From inside its entry. If the queue has dropped that, the frame ends as expired."""
    parts = Parts()
    for name in ("a", "gone", "b"):
        frame_of, delivery, fps = frame(name, key=b"" if name == "a" else None)
        again = frame_of if name == "a" else replace(frame_of, frame_key=None)
        parts.dispatcher.put([Admitted(again, delivery, fps)])
    with parts.running():
        jobs = [parts.dispatcher.next_job() for _ in range(2)]
    assert [job and job.payload for job in jobs] == [b"inline", b"b-0 again"]
    assert parts.settled == [Skipped("gone-0", SkipReason.PAYLOAD_EXPIRED, "gone")]
    assert parts.queue.asked == []


def test_what_no_thread_has_begun_with_can_be_recalled() -> None:
    """Whether its picture is fetched or not. Other streams go on."""
    parts = Parts()
    film = [frame("b", number, live=False) for number in range(3)]
    with parts.running():
        parts.dispatcher.put([frame("a")])
        wait_until(lambda: len(parts.dispatcher._ready) == 1)
        parts.dispatcher.put([frame("a", 1), *film, frame("c"), suspect("s")])
        assert sorted(parts.dispatcher.waiting_streams()) == ["a", "b", "c", "s"]
        recalled = parts.dispatcher.recall({"a", "b", "s", "other"})
        assert sorted(each.entry_id for each in recalled) == ["a-0", "a-1", "b-0", "b-1", "b-2", "s-0"]
        assert parts.jobs(1) == ["c-0"]
        assert parts.dispatcher.waiting_streams() == []


def suspect(name: str, number: int = 0, *, age: float = 1.0, live: bool = True) -> Admitted:
    """A frame that was delivered twice before."""
    its = frame(name, number, age=age, live=live)
    return its._replace(delivery=its.delivery._replace(times_delivered=3))


def test_a_suspect_goes_first() -> None:
    """Before all that wait, live or not; unless it is too old, or a newer frame of its stream waits."""
    parts = Parts()
    parts.dispatcher.put([frame("a"), frame("b"), frame("b", 1, live=False)])
    superseded = parts.dispatcher.put(
        [suspect("b", 9), suspect("b", 8, live=False), suspect("c"), suspect("d", age=11.0)]
    )
    assert [each.entry_id for each in superseded] == ["b-9"]
    assert len(parts.dispatcher) == 6
    with parts.running():
        assert parts.jobs(5) == ["b-8", "c-0", "a-0", "b-0", "b-1"]
    assert parts.settled == [Skipped("d-0", SkipReason.STALE, "d", b"d-0")]


def test_a_failed_fetch_is_repeated() -> None:
    """The frame isn't lost."""
    parts = Parts()
    parts.queue.failures = 2
    parts.dispatcher.put([frame("a")])
    with parts.running():
        assert parts.jobs(1) == ["a-0"]
    assert parts.queue.asked == [[b"a-0"]] * 3


def test_a_stop_ends_the_counting_threads() -> None:
    """They finish what is fetched; what waits stays where it is."""
    parts = Parts()
    with parts.running() as pool:
        parts.dispatcher.put([frame("a"), frame("b")])
        wait_until(lambda: len(parts.dispatcher._ready) == 1)
        parts.dispatcher.stop()
        wait_until(lambda: parts.dispatcher._ended)
        assert pool.submit(parts.jobs, 2).result(60.0) == ["a-0"]
    assert len(parts.dispatcher) == 1


def test_a_stop_doesnt_wait_for_redis() -> None:
    """If no fetch succeeds the decoding threads still end at once."""
    parts = Parts()
    parts.queue.failures = 10**6
    with parts.running() as pool:
        parts.dispatcher.put([frame("a")])
        wait_until(lambda: parts.queue.asked)
        waiting = pool.submit(parts.dispatcher.next_job)
        parts.dispatcher.stop()
        assert waiting.result(60.0) is None


def test_a_picture_that_cant_be_reached_holds_up_no_other() -> None:
    """Its frame waits for another turn, and a newer frame of its stream may take its place meanwhile."""
    parts = Parts()
    parts.queue.unreachable = {b"lost-1"}
    parts.dispatcher.put([frame("lost", 1), frame("other", 1)])
    with parts.running() as pool:
        assert pool.submit(parts.dispatcher.next_job).result(60.0).frame.entry_id == "other-1"
        waiting = pool.submit(parts.dispatcher.next_job)
        wait_until(lambda: parts.queue.fetched.count(b"lost-1") >= 2, "it is tried again")
        parts.queue.unreachable = set()
        assert waiting.result(60.0).frame.entry_id == "lost-1"
    assert parts.settled == []
