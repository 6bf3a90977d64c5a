"""The kinds of sources."""

from pathlib import Path

import pytest

from worker.publish.source import Kind, kind_of


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", Kind.WEBCAM),
        ("12", Kind.WEBCAM),
        ("rtsp://camera.local/stream", Kind.CAMERA_URL),
        ("rtsps://user:word@camera.local:8322/stream", Kind.CAMERA_URL),
        ("http://camera.local/mjpeg", Kind.CAMERA_URL),
        ("https://host/films/film.MP4?token=1", Kind.FILM),
        ("film.mp4", Kind.FILM),
        ("missing", Kind.FILM),
        ("synthetic:", Kind.SYNTHETIC),
        ("synthetic:fps=15,hands=2", Kind.SYNTHETIC),
    ],
)
def test_kinds(source: str, kind: Kind) -> None:
    """The text determines the kind of a source."""
    assert kind_of(source) is kind


def test_an_existing_folder(tmp_path: Path) -> None:
    """The path of an existing folder is a folder of pictures."""
    assert kind_of(str(tmp_path)) is Kind.FOLDER


@pytest.mark.parametrize(
    "source",
    ["", "rtp://camera/stream", "rtsp://", "rtsp:///stream", "rtsp://camera:port/x", "rtsp://camera:0/x",
     "rtsp://camera:70000/x", "100", "9" * 5000, "synthetic:fps=0", "synthetic:hands=9"],
)  # fmt: skip
def test_invalid_sources(source: str) -> None:
    """Text that can't be any source is a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        kind_of(source)
