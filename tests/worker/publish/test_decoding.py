"""Decoding packet by packet."""

import ctypes
import struct
from pathlib import Path

import av
import pytest
from support.publishing import h264

from worker.publish.choice import Treatment
from worker.publish.decoding import Converter, Decoder, threads_for


@pytest.mark.parametrize(
    ("width", "height", "fps", "hurries", "alone"),
    [
        (640, 480, 30.0, False, True),
        (1920, 1080, 25.0, False, True),
        (1920, 1080, 30.0, False, True),
        (1920, 1080, 60.0, False, False),
        (3840, 2160, 25.0, False, False),
        (640, 480, 30.0, True, False),
        (0, 0, 25.0, False, True),
    ],
)
def test_threads(
    width: int, height: int, fps: float, hurries: bool, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread decodes what it can in time; large videos and films without a pace get several, but not all."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert threads_for(width, height, fps, hurries) == (1 if alone else 4)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert threads_for(width, height, fps, hurries) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_packets_alone_and_in_a_row(tmp_path: Path, threads: int) -> None:
    """A packet alone gives its frame at once; after that, and after damage, decoding goes on at a key frame."""
    path = h264(tmp_path / "film.mp4", [index / 25 for index in range(30)], bf="2", sc_threshold="0")
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        decoder = Decoder(video, threads)
        packets = [packet for packet in film.demux(video) if packet.size]
        assert [frame.pts for frame in decoder.decode(packets[0], Treatment.ALONE)] == [packets[0].pts]
        frames = [*decoder.decode(packets[10], Treatment.RESTART)]
        for packet in packets[11:20]:
            frames += decoder.decode(packet, Treatment.DECODE)
        frames += decoder.drain()
        assert [frame.pts for frame in frames] == sorted(packet.pts for packet in packets[10:20])
        assert decoder.drain() == []
        damaged = av.Packet(bytes(100))
        assert decoder.decode(damaged, Treatment.RESTART) == []
        assert [frame.pts for frame in decoder.decode(packets[20], Treatment.ALONE)] == [packets[20].pts]
        assert decoder.decoded == 12


def test_interlaced_videos(tmp_path: Path) -> None:
    """A packet may be half a frame then."""
    for options, whole in (({}, True), ({"x264-params": "tff=1"}, False)):
        path = h264(tmp_path / f"{whole}.ts", [index / 25 for index in range(5)], **options)
        with av.open(str(path)) as film:
            assert Decoder(film.streams.video[0], 1).whole_frames is whole


@pytest.mark.parametrize("bf", ["0", "2"])
def test_a_decoder_that_pauses_shows_the_same(tmp_path: Path, bf: str) -> None:
    """Its frames are those of one that stays open: of key frames alone, and of the first pictures of each group."""
    path = h264(tmp_path / "film.ts", [index / 25 for index in range(40)], bf=bf, g="10", sc_threshold="0")
    for only_keys in (True, False):
        shown: list[list[tuple[int | None, bytes]]] = []
        for pauses in (False, True):
            with av.open(str(path)) as film:
                video = film.streams.video[0]
                decoder, since_key, frames = Decoder(video, 1, pauses), 0, []
                for packet in film.demux(video):
                    if not packet.size:
                        continue
                    since_key = 0 if packet.is_keyframe else since_key + 1
                    if only_keys and packet.is_keyframe:
                        frames += decoder.decode(packet, Treatment.ALONE)
                    elif not only_keys and since_key < 6:
                        frames += decoder.decode(packet, Treatment.DECODE if since_key else Treatment.RESTART)
                    else:
                        decoder.pause()
                shown.append([(frame.pts, frame.to_ndarray().tobytes()) for frame in frames])
        assert shown[0] == shown[1]
        assert len(shown[0]) >= 4


@pytest.mark.parametrize("bf", ["0", "2"])
@pytest.mark.parametrize("again", [0, 3])
def test_frames_after_packets_that_were_held(tmp_path: Path, bf: str, again: int) -> None:
    """They are those of a decoder that gets all packets; the frames of held packets aren't shown, nor any twice."""
    path = h264(tmp_path / "film.ts", [index / 25 for index in range(60)], bf=bf, g="20", sc_threshold="0")
    with av.open(str(path)) as film:
        whole = {frame.pts: frame.to_ndarray().tobytes() for frame in film.decode(video=0)}
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        decoder, shown, since_key, wanted = Decoder(video, 1, pauses=True), [], 0, []
        assert decoder.holds
        for packet in film.demux(video):
            if not packet.size or packet.is_disposable:
                continue
            since_key = 0 if packet.is_keyframe else since_key + 1
            if since_key in (0, 4, 5):
                if since_key or bf == "0" or not again:  # else it is still in the decoder when that is closed
                    wanted.append(packet.pts)
                shown += decoder.decode(packet, Treatment.DECODE if since_key else Treatment.RESTART)
            elif since_key > 5:
                decoder.pause()
            else:
                assert not decoder.hold(packet, again)
            if since_key == 5:
                shown += decoder.drain()
        assert {frame.pts: frame.to_ndarray().tobytes() for frame in shown} == {pts: whole[pts] for pts in wanted}
        assert len(shown) == len(wanted) >= 6


def test_what_is_held_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is decoded, and not shown later."""
    monkeypatch.setattr("worker.publish.decoding._MOST_HELD", 100)
    path = h264(tmp_path / "film.ts", [index / 25 for index in range(20)], bf="0", g="20")
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        decoder = Decoder(video, 1, pauses=True)
        *packets, last = [packet for packet in film.demux(video) if packet.size]
        pts = last.pts
        assert any([decoder.hold(packet, 0) for packet in packets])  # noqa: C419 (all of them)
        decoder.catch_up()
        assert decoder.decoded == len(packets)
        assert [frame.pts for frame in decoder.decode(last, Treatment.DECODE)] == [pts]


def test_pictures_are_turned_as_the_container_says(tmp_path: Path) -> None:
    """By the matrix in the header of the track."""
    path = h264(tmp_path / "film.mp4", [0.0])
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    with av.open(str(path)) as film:
        (frame,) = film.decode(video=0)
        assert Converter().picture(frame).shape == (frame.width, frame.height, 3)


class Mallinfo2(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


def allocated() -> int:
    """Returns the bytes that the C library has given out."""
    read = ctypes.CDLL(None).mallinfo2
    read.restype = Mallinfo2
    found = read()
    return found.uordblks + found.hblkhd


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library isn't glibc 2.33")
def test_converters_keep_no_picture() -> None:
    """A process has one for each camera."""
    converters = [Converter() for _ in range(10)]
    converters[0].picture(av.VideoFrame(1920, 1080, "yuv420p"))
    before = allocated()
    for converter in converters:
        converter.picture(av.VideoFrame(1920, 1080, "yuv420p"))
    assert allocated() - before < 1920 * 1080
