"""Decoding packet by packet."""

from pathlib import Path

import av
import pytest
from support.publishing import h264

from worker.publish.choice import Treatment
from worker.publish.decoding import Decoder, threads_for


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
