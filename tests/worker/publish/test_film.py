"""Films: their own times, loops, sizes that change, and what is decoded for a limit."""

import itertools
import os
import threading
import time
from pathlib import Path

import av
import pytest
from support.limits import RuleDue
from support.publishing import h264, hevc, jpeg, motion_jpeg, number_of, take

from worker.picture_header import size
from worker.publish.film import Film
from worker.publish.open_source import open_source
from worker.publish.options import Reception, SourceOptions
from worker.publish.source import Source, SourceError
from worker.publish.thinning import Unlimited

TIMES = [0.0, 0.1, 0.2, 0.6, 0.7]


def film(path: Path | str, loop: bool = False) -> Source:
    """Returns a film as a source that doesn't wait for its times."""
    source = open_source(SourceOptions(source=str(path), loop=loop, fast=True))
    assert isinstance(source, Film)
    return source


def offsets(frames: list) -> list[float]:
    """Returns the capture times since the first one."""
    return [frame.ts - frames[0].ts for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_film_is_read_once_at_its_own_times(tmp_path: Path, suffix: str) -> None:
    """Each frame is yielded once, in order, with the start plus its position as ts."""
    frames = take(film(h264(tmp_path / f"film.{suffix}", TIMES)))
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 3, 4]
    assert offsets(frames) == pytest.approx(TIMES, abs=0.002)


def test_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path) -> None:
    """B frames are stored after what follows them."""
    times = [index / 25 for index in range(23)]
    frames = take(film(h264(tmp_path / "film.mp4", times, bf="3")))
    assert [number_of(frame.picture) for frame in frames] == list(range(23))
    assert offsets(frames) == pytest.approx(times, abs=0.002)


def test_a_looped_film_continues(tmp_path: Path) -> None:
    """After a loop the pictures start over, and ts continues with one frame of the film's nominal rate."""
    path = motion_jpeg(tmp_path / "film.avi", [jpeg(index) for index in range(3)])
    frames = take(film(path, loop=True), 8)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert offsets(frames) == pytest.approx([index / 10 for index in range(8)], abs=1e-4)


def test_a_looped_film_keeps_its_own_times(tmp_path: Path) -> None:
    """In each pass the gaps between frames are the film's own."""
    frames = take(film(h264(tmp_path / "film.mp4", TIMES), loop=True), 10)
    for first in (0, 5):
        times = [frame.ts - frames[first].ts for frame in frames[first : first + 5]]
        assert times == pytest.approx(TIMES, abs=0.002)


def test_no_such_film() -> None:
    """A missing file is an error before anything is published."""
    with pytest.raises(SourceError, match=r"nothing\.mp4: no such file"):
        film("nothing.mp4")


def test_a_film_ends_at_a_stop(tmp_path: Path) -> None:
    """After a stop no more frames are yielded."""
    stop = threading.Event()
    frames = film(h264(tmp_path / "film.mp4", TIMES), loop=True).frames(stop, Unlimited())
    next(frames)
    stop.set()
    assert len(list(frames)) <= 4  # those that were in the decoder


def test_a_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg doesn't take what precedes a colon for a protocol."""
    h264(tmp_path / "cam.mp4", TIMES).rename(tmp_path / "cam1-12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(take(film("cam1-12:30.mp4"))) == 5


def test_a_pipe(tmp_path: Path) -> None:
    """A named pipe is read like a film."""
    content = h264(tmp_path / "film.ts", TIMES).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    frames = take(film(pipe))
    writer.join()
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 3, 4]


def test_a_pipe_whose_writer_takes_its_time(tmp_path: Path) -> None:
    """The time-out is for networks: a silent pipe is waited for."""
    content = h264(tmp_path / "film.ts", [index / 25 for index in range(50)]).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as out:
            for start in range(0, len(content), len(content) // 3 + 1):
                out.write(content[start : start + len(content) // 3 + 1])
                time.sleep(0.1)  # longer than the time-out

    writer = threading.Thread(target=write)
    writer.start()
    options = SourceOptions(source=str(pipe), fast=True, reception=Reception(timeout=0.01))
    frames = take(open_source(options))
    writer.join()
    assert len(frames) == 50


def test_a_film_of_damaged_data(tmp_path: Path) -> None:
    """The error names the codec that nothing could be decoded as."""
    content = h264(tmp_path / "film.mp4", TIMES).read_bytes()
    data = content.index(b"mdat")
    end = content.index(b"moov") - 4
    path = tmp_path / "broken.mp4"
    path.write_bytes(content[: data + 4] + bytes(end - data - 4) + content[end:])
    with pytest.raises(SourceError, match=r"broken\.mp4: no frame can be decoded as h264"):
        take(film(path))


def test_a_film_whose_size_changes(tmp_path: Path) -> None:
    """Each frame has its own size, as a decoder shows it, and ts continues across the change."""
    path = tmp_path / "film.ts"
    with path.open("wb") as joined:
        for number, (width, height) in enumerate([(320, 180), (180, 320)]):
            part = tmp_path / f"{number}.ts"
            with av.open(str(part), "w") as container:
                stream = container.add_stream("libx264", rate=10)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for index in range(10):
                    frame = av.VideoFrame(width, height, "yuv420p")
                    frame.pts = index + 10 * number
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
            joined.write(part.read_bytes())
    frames = take(film(path))
    assert [size(frame.picture) for frame in frames] == [(320, 180)] * 10 + [(180, 320)] * 10
    assert offsets(frames) == pytest.approx([index / 10 for index in range(20)], abs=0.002)


@pytest.mark.parametrize(("suffix", "gap"), [("ts", 0.04), ("mp4", 3600.0)])
def test_a_jump_of_time(tmp_path: Path, suffix: str, gap: float) -> None:
    """In a transport stream, whose clock may be set anew, a jump is one step; in other films it is the film's own."""
    frames = take(film(h264(tmp_path / f"film.{suffix}", [0.0, 0.04, 0.08, 3600.08, 3600.12])))
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 3, 4]
    gaps = [later.ts - earlier.ts for earlier, later in itertools.pairwise(frames)]
    assert gaps == pytest.approx([0.04, 0.04, gap, 0.04], abs=0.002)


@pytest.fixture(scope="session")
def long_films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films of 10 s at 25 fps with a key frame every 2 s, by their kind."""
    folder, times = tmp_path_factory.mktemp("films"), [index / 25 for index in range(250)]
    return {
        "without B frames": h264(folder / "p.mp4", times, g="50", sc_threshold="0"),
        "with B frames": h264(folder / "b.mkv", times, g="50", bf="2", sc_threshold="0"),
        "with B frames that others refer to": h264(
            folder / "pyramid.ts", times, g="50", bf="3", sc_threshold="0", **{"b-pyramid": "normal"}
        ),
        "with open groups": h264(
            folder / "open.mp4", times, g="50", bf="2", sc_threshold="0", **{"x264-params": "open-gop=1"}
        ),
        "HEVC": hevc(folder / "hevc.mp4", times, 50),
        "motion JPEG": motion_jpeg(folder / "jpeg.avi", [jpeg(index % 24) for index in range(250)], fps=25),
    }


KINDS = [
    "without B frames",
    "with B frames",
    "with B frames that others refer to",
    "with open groups",
    "HEVC",
    "motion JPEG",
]


@pytest.mark.parametrize("limit", [0.2, 0.5, 1.0, 5.0, 12.0, 25.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_gets_its_frames_whatever_is_left_out(long_films: dict[str, Path], kind: str, limit: float) -> None:
    """As many frames are admitted as if all were decoded, and each shows what belongs to its time."""
    due = RuleDue(limit)
    source = film(long_films[kind])
    frames = take(source, due=due)
    expected = min(limit, 25.0) * 10
    assert expected * 0.98 - 1 <= len(frames) <= expected + 2.5
    origin = frames[0].ts  # the first frame is always due
    shown = [number_of(frame.picture) for frame in frames]
    assert shown == [round((frame.ts - origin) * 25) % 24 for frame in frames]


def test_a_paused_film_is_not_decoded(long_films: dict[str, Path]) -> None:
    """All its frames pass by at their times, without a picture."""
    frames = list(film(long_films["with B frames"]).frames(threading.Event(), RuleDue(0.0)))
    assert len(frames) == 250
    assert {frame.encode for frame in frames} == {None}
    times = sorted(frame.ts - frames[0].ts for frame in frames)
    assert times == pytest.approx([index / 25 for index in range(250)], abs=0.002)


def test_a_film_without_timestamps(tmp_path: Path) -> None:
    """Each frame is one step of the nominal rate, whether it is decoded or not."""
    path = h264(tmp_path / "film.h264", [index / 25 for index in range(50)])
    for limit in (RuleDue(0.0), RuleDue(100.0)):
        frames = list(film(path).frames(threading.Event(), limit))
        assert offsets(frames) == pytest.approx([index / 25 for index in range(50)], abs=0.002)
