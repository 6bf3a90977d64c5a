import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.publishing import h264, jpeg, motion_jpeg, number_of, numbered

from worker.picture import Picture
from worker.picture_header import PictureError
from worker.publish.film import Film, Folder, SimulatedCamera
from worker.publish.open_source import jpeg_encoder
from worker.publish.source import Captured, Source, SourceError
from worker.publish.thinning import Unlimited
from worker.synthetic.spec import SyntheticSpec

START = 1_700_000_000.0
TIMES = [0.0, 0.1, 0.2, 0.6, 0.7]


def encode(picture: Picture) -> bytes:
    """Returns a picture as JPEG."""
    return cv2.imencode(".jpg", picture)[1].tobytes()


def take(source: Source, count: int, failures: list[str] | None = None) -> list[Captured]:
    """Returns the first frames of a source that can be encoded, and adds the reasons of the others to `failures`."""
    taken: list[Captured] = []
    frames = source.frames(threading.Event(), Unlimited())
    for frame in frames:
        try:
            taken.append(Captured(frame.ts, frame.encode()))
        except PictureError as error:
            if failures is None:
                raise
            failures.append(str(error))
        if len(taken) == count:
            break
    frames.close()
    return taken


def film(path: Path, loop: bool = False) -> Film:
    """Returns a film as a source."""
    return Film(str(path), lambda: str(path), encode, start=START, loop=loop, paced=False)


def test_a_film_is_read_once_at_its_own_times(tmp_path: Path) -> None:
    """Each frame is yielded once, in order, with the start plus its position as ts."""
    frames = take(film(h264(tmp_path / "film.mp4", TIMES)), 100)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.ts - START for frame in frames] == pytest.approx(TIMES, abs=0.002)


def test_a_looped_film_continues(tmp_path: Path) -> None:
    """After a loop the pictures start over, and ts continues with one frame of the film's nominal rate."""
    path = motion_jpeg(tmp_path / "film.avi", [jpeg(index) for index in range(3)])
    frames = take(film(path, loop=True), 8)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [frame.ts - START for frame in frames] == pytest.approx([index / 10 for index in range(8)], abs=1e-4)


def test_a_looped_film_keeps_its_own_times(tmp_path: Path) -> None:
    """In each pass the gaps between frames are the film's own."""
    frames = take(film(h264(tmp_path / "film.mp4", TIMES), loop=True), 10)
    for first in (0, 5):
        times = [frame.ts - frames[first].ts for frame in frames[first : first + 5]]
        assert times == pytest.approx(TIMES, abs=0.002)


def test_no_such_film() -> None:
    """A missing file is an error before anything is published."""
    with pytest.raises(SourceError, match=r"nothing\.mp4: no such file"):
        film(Path("nothing.mp4"))


def test_a_film_ends_at_a_stop(tmp_path: Path) -> None:
    """After a stop no more frames are yielded."""
    stop = threading.Event()
    frames = film(h264(tmp_path / "film.mp4", TIMES), loop=True).frames(stop, Unlimited())
    next(frames)
    stop.set()
    assert list(frames) == []


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


def test_a_simulated_camera_keeps_to_its_schedule() -> None:
    """Its capture times follow its frame rate, and determine the true number of hands of each frame."""
    camera = SimulatedCamera(SyntheticSpec(fps=5.0, jitter=0.3, seed=2), encode, paced=True, clock=lambda: START)
    frames = take(camera, 70)
    assert [frame.ts - START for frame in frames] == pytest.approx([index / 5 for index in range(70)], abs=0.061)
    truth = [camera.true_hands(frame.ts) for frame in frames]
    assert truth == [camera.true_hands(START + index / 5) for index in range(70)]
    assert len(set(truth)) > 1


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


def test_an_encoder_reports_what_it_cannot_encode() -> None:
    """A picture that is too wide for a JPEG is a PictureError."""
    with pytest.raises(PictureError, match="70000x1 can't be encoded"):
        jpeg_encoder(85)(np.zeros((1, 70_000, 3), np.uint8))


def test_a_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg doesn't take what precedes a colon for a protocol."""
    h264(tmp_path / "cam.mp4", TIMES).rename(tmp_path / "cam1-12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(take(film(Path("cam1-12:30.mp4")), 100)) == 5


def test_a_pipe(tmp_path: Path) -> None:
    """A named pipe is read like a film."""
    content = h264(tmp_path / "film.ts", TIMES).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    frames = take(film(pipe), 100)
    writer.join()
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 3, 4]


def test_a_film_without_a_decoder(tmp_path: Path) -> None:
    """The error names the codec."""
    content = h264(tmp_path / "film.mp4", TIMES).read_bytes()
    data = content.index(b"mdat")
    end = content.index(b"moov") - 4
    path = tmp_path / "broken.mp4"
    path.write_bytes(content[: data + 4] + bytes(end - data - 4) + content[end:])
    with pytest.raises(SourceError, match=r"no frame can be decoded \(codec (avc1|h264)\)"):
        take(film(path), 100)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 precedes 10."""
    names = ["frame_10.jpg", "frame_2.jpg", "frame_1.jpg", "2x.jpg", "a.jpg"]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(jpeg(index))
    assert [number_of(frame.picture) for frame in take(folder(tmp_path), 9)] == [3, 4, 2, 1, 0]
