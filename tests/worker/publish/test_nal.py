"""Which pictures others refer to."""

from pathlib import Path

import av
import pytest
from support.publishing import h264, hevc

from worker.publish.nal import References

AVC = b"\x01\x64\x00\x28\xff"  # lengths of four bytes
HVC = b"\x01" + bytes(20) + b"\xff"


def separated(*units: bytes) -> bytes:
    """Returns units with start codes before them."""
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def measured(*units: bytes) -> bytes:
    """Returns units with their lengths before them."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


SPS, SEI, IDR, P, B = b"\x67\0\0", b"\x06\x05\x01", b"\x65\x88\x84", b"\x41\x9a\x24", b"\x01\x9e\x41"
TRAIL_N, TRAIL_R, RADL_N, CRA, HEVC_SEI = (
    b"\x00\x01\xd0",
    b"\x02\x01\xd0",
    b"\x0c\x01\xd0",
    b"\x2a\x01\xaf",
    b"\x4e\x01\x05",
)


@pytest.mark.parametrize(
    ("codec", "extradata", "packet", "is_reference"),
    [
        ("h264", None, separated(SPS, IDR), True),
        ("h264", None, separated(SEI, P), True),
        ("h264", None, separated(SEI, B), False),
        ("h264", None, separated(B, P), False),  # the first slice counts
        ("h264", SPS, separated(B), False),  # a configuration with start codes
        ("h264", AVC, measured(SEI, B), False),
        ("h264", AVC, measured(SEI, P), True),
        ("h264", AVC, measured(SPS, IDR), True),
        ("hevc", None, separated(HEVC_SEI, TRAIL_N), False),
        ("hevc", None, separated(TRAIL_R), True),
        ("hevc", None, separated(RADL_N), False),
        ("hevc", None, separated(CRA), True),
        ("hevc", HVC, measured(HEVC_SEI, TRAIL_N), False),
        # what can't be understood counts as a reference
        ("h264", None, b"", True),
        ("h264", None, separated(SEI), True),
        ("h264", None, separated(SEI)[:5], True),
        ("h264", AVC, b"\xff\xff\xff\xff", True),
        ("h264", None, b"no units at all", True),
        ("vp8", None, separated(B), True),
    ],
)
def test_packets(codec: str, extradata: bytes | None, packet: bytes, is_reference: bool) -> None:
    """The header of the first slice tells."""
    assert References(codec, extradata).is_reference(packet) is is_reference


def test_temporal_layers() -> None:
    """Pictures of a higher layer may refer to a sub-layer non-reference, which then isn't left out any more."""
    references = References("hevc", None)
    assert not references.is_reference(separated(TRAIL_N))
    assert not references.is_reference(separated(b"\x00\x02\xd0"))
    assert references.is_reference(separated(TRAIL_N))


@pytest.mark.parametrize("name", ["avc.mp4", "annexb.ts", "hevc.mp4", "hevc.ts"])
def test_films(tmp_path: Path, name: str) -> None:
    """In a film with B frames about half of the pictures aren't referred to, and the others decode without them."""
    times = [index / 25 for index in range(60)]
    path = (
        hevc(tmp_path / name, times, 20)
        if name.startswith("hevc")
        else h264(tmp_path / name, times, bf="2", b_strategy="0")
    )
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        references = References(video.codec_context.name, video.codec_context.extradata)
        packets = [packet for packet in film.demux(video) if packet.size]
        kept = [packet for packet in packets if references.is_reference(memoryview(packet))]
        assert 0.3 < len(kept) / len(packets) < 0.75
        frames = [frame for packet in [*kept, None] for frame in video.codec_context.decode(packet)]
    assert sorted(frame.pts for frame in frames) == sorted(packet.pts for packet in kept)
    assert not any(frame.is_corrupt for frame in frames)
