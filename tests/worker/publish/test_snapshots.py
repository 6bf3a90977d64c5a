"""Cameras that answer each request with one picture."""

import threading
from collections.abc import Iterator

import cv2
import pytest
from support.camera_servers import Reply, http_server
from support.limits import RuleDue
from support.publishing import encode, jpeg, number_of, numbered

from worker.picture_header import PictureError
from worker.publish.arrival import ArrivalTimes
from worker.publish.options import Reception
from worker.publish.snapshots import Snapshots, fetch
from worker.publish.source import SourceError, SourceFrame
from worker.publish.thinning import Due, Unlimited

RECEPTION = Reception(timeout=20.0)


class Clock:
    """A clock and a stop that moves it on instead of waiting, until the end."""

    def __init__(self, end: float) -> None:
        self.now = 0.0
        self._end = end

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now > self._end


def run(camera: Snapshots, clock: Clock, due: Due) -> Iterator[SourceFrame]:
    """Returns what a camera yields until the clock's end."""
    return camera.frames(ArrivalTimes(clock), due, encode, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fps", "slowness", "times"), [(2.0, 0.0, [0.0, 0.5, 1.0, 1.5, 2.0]), (10.0, 0.7, [0.7, 1.4, 2.1])]
)
def test_the_pace(fps: float, slowness: float, times: list[float]) -> None:
    """Pictures are asked for at the given rate; a slow camera isn't asked twice at a time, nor faster afterwards."""
    clock = Clock(2.0)

    def slow() -> bytes:
        clock.now += slowness
        return jpeg(3)

    frames = list(run(Snapshots(slow, fps, clock), clock, Unlimited()))
    assert [frame.ts for frame in frames] == pytest.approx(times)
    assert number_of(frames[0].encode()) == 3


def test_a_delay_is_not_made_up_for() -> None:
    """After a slow answer the pace is as before; the pictures that were missed aren't asked for."""
    clock = Clock(2.0)
    delays = iter([0.9, *[0.0] * 9])

    def answer() -> bytes:
        clock.now += next(delays)
        return jpeg(3)

    frames = list(run(Snapshots(answer, 4.0, clock), clock, Unlimited()))
    assert [frame.ts for frame in frames] == pytest.approx([0.9, 0.9, 1.15, 1.4, 1.65, 1.9], abs=0.001)


def test_nothing_is_asked_for_what_is_not_due() -> None:
    """A limit below the rate saves the requests too; a pause sends none."""
    clock, due, asked = Clock(4.05), RuleDue(0.5), []

    def answer() -> bytes:
        asked.append(clock.now)
        return jpeg(1)

    taken = 0
    for frame in run(Snapshots(answer, 10.0, clock), clock, due):
        if frame.encode:
            due.taken(frame.ts)
            taken += 1
    assert asked == pytest.approx([0.0, 2.0, 4.0])
    assert taken == 3
    clock, due.limit = Clock(4.0), 0.0
    assert {frame.encode for frame in run(Snapshots(answer, 10.0, clock), clock, due)} == {None}
    assert len(asked) == 3


def test_a_failure_ends_it() -> None:
    """The reason is kept for the log."""

    def fail() -> bytes:
        raise SourceError("door: gone")

    camera = Snapshots(fail, 10.0)
    assert list(camera.frames(ArrivalTimes(lambda: 0.0), Unlimited(), encode, threading.Event())) == []
    assert camera.why_ended == "door: gone"
    camera.close()


@pytest.mark.parametrize("login", ["", "Basic", "Digest"])
def test_fetching(login: str) -> None:
    """The bytes are the server's own, with either login; a wrong password is named."""
    with http_server({"/now.jpg": Reply(jpeg(3), kind="image/jpeg", login=login)}) as base:
        user = "me:se%2Fcret@" if login else ""
        assert fetch(base.replace("//", f"//{user}") + "/now.jpg", "door", RECEPTION) == jpeg(3)
        if login:
            with pytest.raises(SourceError, match="refuses the user or the password"):
                fetch(base.replace("//", "//me:wrong@") + "/now.jpg", "door", RECEPTION)


def test_other_pictures_are_encoded() -> None:
    """PNG stays as it is, WebP becomes JPEG, and what is no picture is a PictureError."""
    png, webp = (cv2.imencode(suffix, numbered(4))[1].tobytes() for suffix in (".png", ".webp"))
    contents = iter([png, webp, b"<html>"])
    clock = Clock(0.25)
    frames = list(run(Snapshots(lambda: next(contents), 10.0, clock), clock, Unlimited()))
    assert frames[0].encode() == png
    assert number_of(frames[1].encode()) == 4
    with pytest.raises(PictureError):
        frames[2].encode()


def test_a_server_that_sends_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture has a bounded size."""
    monkeypatch.setattr("worker.publish.snapshots._MOST_BYTES", 1000)
    with (
        http_server({"/x": Reply(bytes(100_000), length=False)}) as base,
        pytest.raises(SourceError, match="more than 1000 bytes"),
    ):
        fetch(f"{base}/x", "door", RECEPTION)
