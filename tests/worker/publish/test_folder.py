"""Folders of pictures, read once or watched."""

import itertools
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from support.publishing import encode, jpeg, number_of, numbered, take
from support.waiting import wait_until

from worker.picture_header import PictureError
from worker.publish.folder import Folder, WatchedFolder
from worker.publish.source import SourceError, SourceFrame
from worker.publish.thinning import Unlimited

START = 1_700_000_000.0


def folder(path: Path, loop: bool = False) -> Folder:
    """Returns a folder as a source."""
    return Folder(str(path), encode, fps=4.0, start=START, loop=loop, paced=False)


def test_a_folder_is_read_by_name_at_an_even_pace(tmp_path: Path) -> None:
    """JPEG and PNG aren't encoded again, others become JPEG; files with other suffixes are ignored."""
    png = cv2.imencode(".png", numbered(2))[1].tobytes()
    (tmp_path / "b.png").write_bytes(png)
    (tmp_path / "a.JPG").write_bytes(jpeg(1))
    cv2.imwrite(str(tmp_path / "c.bmp"), numbered(3))
    (tmp_path / "readme.txt").write_text("no picture")
    frames = take(folder(tmp_path), 100)
    assert [frame.picture for frame in frames][:2] == [jpeg(1), png]
    assert number_of(frames[2].picture) == 3
    assert [frame.ts - START for frame in frames] == [0.0, 0.25, 0.5]


def test_a_looped_folder_continues(tmp_path: Path) -> None:
    """After a loop ts continues at the same pace."""
    for index in range(2):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    frames = take(folder(tmp_path, loop=True), 5)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 0, 1, 0]
    assert [frame.ts - START for frame in frames] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_broken_picture_is_skipped(tmp_path: Path) -> None:
    """A picture that can't be read is tried once and takes no place in time; the others are published."""
    for name, content in {"a.jpg": b"broken", "b.jpg": jpeg(5), "c.bmp": b"broken", "d.bmp": b""}.items():
        (tmp_path / name).write_bytes(content)
    failures: list[str] = []
    frames = take(folder(tmp_path, loop=True), 3, failures)
    assert [number_of(frame.picture) for frame in frames] == [5, 5, 5]
    assert [frame.ts - START for frame in frames] == [0.0, 0.25, 0.5]
    assert [Path(reason.split(": ")[0]).name for reason in failures] == ["a.jpg", "c.bmp", "d.bmp"]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    """A folder without pictures is an error at once; one of broken pictures, after all were tried."""
    with pytest.raises(SourceError, match="no pictures in this folder"):
        folder(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(SourceError, match="none of the pictures in this folder can be read"):
        take(folder(tmp_path, loop=True), 1, [])


def test_pictures_are_read_by_their_content(tmp_path: Path) -> None:
    """A WebP named .jpg becomes a JPEG, a JPEG named .bmp stays as it is, and one that a codec rejects is skipped."""
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".webp", numbered(3))[1].tobytes())
    (tmp_path / "b.bmp").write_bytes(jpeg(4))
    (tmp_path / "c.bmp").write_bytes(
        b"BM" + bytes(12) + (40).to_bytes(4, "little") + b"\xff\xff\0\0" * 2 + b"\1\0\x18" + bytes(25)
    )
    (tmp_path / "d.jpg").write_bytes(jpeg(5)[:-2])
    failures: list[str] = []
    frames = take(folder(tmp_path), 100, failures)
    assert [number_of(frame.picture) for frame in frames] == [3, 4]
    assert frames[1].picture == jpeg(4)
    assert [Path(reason.split(": ")[0]).name for reason in failures] == ["c.bmp", "d.jpg"]


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 precedes 10."""
    names = ["frame_10.jpg", "frame_2.jpg", "frame_1.jpg", "2x.jpg", "a.jpg"]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(jpeg(index))
    assert [number_of(frame.picture) for frame in take(folder(tmp_path), 9)] == [3, 4, 2, 1, 0]


class Watch:
    """A watched folder that is read by a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[SourceFrame] = []
        self.pictures: list[int | str] = []
        self.stop = threading.Event()
        clock = itertools.count(100)
        self._source = WatchedFolder(str(folder), encode, clock=lambda: float(next(clock)))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for frame in self._source.frames(self.stop, Unlimited()):
            try:
                picture: int | str = number_of(frame.encode())
            except PictureError as error:
                picture = str(error)
            self.found.append(frame)
            self.pictures.append(picture)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file in one step."""
        (self.folder / f"{name}.part").write_bytes(content)
        (self.folder / f"{name}.part").rename(self.folder / name)

    def close(self) -> None:
        """Ends it."""
        self.stop.set()
        self._thread.join()


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """A watched folder with one picture that was there before."""
    monkeypatch.setattr("worker.publish.folder._LOOK_S", 0.02)
    (tmp_path / "old.jpg").write_bytes(jpeg(0))
    watched = Watch(tmp_path)
    yield watched
    watched.close()


def test_a_watched_folder_has_what_arrives(watch: Watch) -> None:
    """What was there before isn't published; each picture that arrives is, with its time of arrival, and each new version."""
    watch.write("a.jpg", jpeg(1))
    wait_until(lambda: watch.pictures == [1])
    watch.write("notes.txt", b"no picture")
    watch.write("now.jpg", jpeg(2))
    wait_until(lambda: watch.pictures == [1, 2])
    watch.write("now.jpg", jpeg(3) + b" ")  # another version
    wait_until(lambda: watch.pictures == [1, 2, 3])
    assert [frame.ts for frame in watch.found] == [100.0, 101.0, 102.0]


def test_a_picture_is_published_when_it_is_complete(watch: Watch) -> None:
    """A picture that is still being written waits until it doesn't grow any more."""
    content = jpeg(4)
    with (watch.folder / "slow.jpg").open("wb") as file:
        for at in range(0, len(content), 64):
            file.write(content[at : at + 64])
            file.flush()
    wait_until(lambda: watch.pictures[-1:] == [4])
    assert all(picture == 4 or "cut short" in str(picture) for picture in watch.pictures)


def test_a_damaged_picture_does_not_end_a_watch(watch: Watch) -> None:
    """It is reported with its path, and the next one is published."""
    watch.write("bad.jpg", b"damaged")
    wait_until(lambda: watch.pictures)
    watch.write("good.jpg", jpeg(5))
    wait_until(lambda: watch.pictures[-1:] == [5])
    assert str(watch.pictures[0]).startswith(f"{watch.folder}/bad.jpg: ")


def test_a_folder_that_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss and the return are logged once each, and pictures are published again."""
    monkeypatch.setattr("worker.publish.folder._LOOK_S", 0.02)
    folder = tmp_path / "uploads"
    folder.mkdir()
    with caplog.at_level(logging.INFO):
        watched = Watch(folder)
        folder.rename(tmp_path / "elsewhere")
        wait_until(lambda: "the folder can't be read; retrying" in caplog.messages)
        (tmp_path / "elsewhere").rename(folder)
        wait_until(lambda: "the folder can be read again" in caplog.messages)
        watched.write("a.jpg", jpeg(6))
        wait_until(lambda: watched.pictures == [6])
        watched.close()
    assert len(caplog.records) == 2


def test_pictures_that_arrive_together_come_in_the_order_of_their_numbers(watch: Watch) -> None:
    """2 precedes 10, and capture times increase."""
    other = watch.folder / "other"
    other.mkdir()
    for number in (10, 2, 1):
        (other / f"{number}.jpg").write_bytes(jpeg(number))
    for path in other.iterdir():
        os.link(path, watch.folder / path.name)
    wait_until(lambda: len(watch.pictures) == 3)
    times = [frame.ts for frame in watch.found]
    assert times == sorted(set(times))
