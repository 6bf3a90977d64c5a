"""Which JPEGs of a film are published as they are."""

import itertools
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.publishing import HEIGHT, WIDTH, h264, jpeg, motion_jpeg, number_of, numbered, take

from worker.picture import decode
from worker.picture_header import size
from worker.publish.open_source import open_source
from worker.publish.options import SourceOptions


def published(path: Path) -> list[bytes]:
    """Returns the pictures of a film."""
    return [frame.picture for frame in take(open_source(SourceOptions(source=str(path), fast=True)))]


def test_motion_jpeg_is_not_decoded(tmp_path: Path) -> None:
    """Every frame of a motion JPEG film, the first one too, is exactly the JPEG in the file."""
    pictures = [jpeg(index) for index in range(8)]
    assert published(motion_jpeg(tmp_path / "film.avi", pictures)) == pictures


def test_incomplete_jpegs_are_decoded_by_ffmpeg(tmp_path: Path) -> None:
    """A JPEG that can't be decoded on its own is decoded by FFmpeg, which may succeed; the others stay as they are."""
    whole = jpeg(3)
    pictures = published(motion_jpeg(tmp_path / "film.avi", [whole[: whole.rindex(b"\xff\xd9")], whole]))
    assert [number_of(picture) for picture in pictures] == [3, 3]
    assert pictures[0] != whole
    assert pictures[1] == whole


TURNS = {
    90: (0, 0x10000, 0, -0x10000, 0, 0),
    180: (-0x10000, 0, 0, 0, -0x10000, 0),
    270: (0, -0x10000, 0, 0x10000, 0, 0),
}


@pytest.mark.parametrize("degrees", TURNS)
def test_motion_jpeg_is_turned_as_the_container_says(tmp_path: Path, degrees: int) -> None:
    """A film that is to be shown turned is decoded and turned, by 180 degrees too, which changes no size."""
    stored = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    stored[: HEIGHT // 2, : WIDTH // 2] = 220  # the corner at the top left
    path = motion_jpeg(tmp_path / "film.mov", [cv2.imencode(".jpg", stored)[1].tobytes()] * 3)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", *TURNS[degrees], 0, 0, 0x40000000)
    path.write_bytes(content)
    pictures = [decode(picture) for picture in published(path)]
    assert [picture.shape for picture in pictures] == [(HEIGHT, WIDTH, 3) if degrees == 180 else (WIDTH, HEIGHT, 3)] * 3
    row, column = {90: (0, -1), 180: (-1, -1), 270: (-1, 0)}[degrees]
    assert pictures[0][row, column, 0] > 180
    assert sum(int(pictures[0][corner][0]) > 180 for corner in itertools.product((0, -1), repeat=2)) == 1


def test_the_fields_of_motion_jpeg_are_woven(tmp_path: Path) -> None:
    """A film whose frames consist of two JPEGs of half the height is decoded to whole frames."""
    field = cv2.imencode(".jpg", numbered(3)[::2])[1].tobytes()
    pictures = published(motion_jpeg(tmp_path / "film.avi", [field * 2] * 3))
    assert {size(picture) for picture in pictures} == {(WIDTH, HEIGHT)}


def test_pictures_whose_size_changes(tmp_path: Path) -> None:
    """Each has its own size, and none is encoded again."""
    small = cv2.imencode(".jpg", numbered(5)[:40, :64])[1].tobytes()
    pictures = [jpeg(1), small, small, jpeg(2)]
    assert published(motion_jpeg(tmp_path / "film.avi", pictures)) == pictures


def test_other_codecs_are_encoded(tmp_path: Path) -> None:
    """H.264 becomes JPEG."""
    pictures = published(h264(tmp_path / "film.mp4", [0.0, 0.04]))
    assert [number_of(picture) for picture in pictures] == [0, 1]
