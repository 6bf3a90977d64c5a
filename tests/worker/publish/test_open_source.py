"""Opening the source that users name."""

from pathlib import Path

import pytest
from support.publishing import jpeg, motion_jpeg, numbered

from worker.picture_header import size
from worker.publish import open_source as module
from worker.publish.film import Film, Folder, SimulatedCamera
from worker.publish.live import LiveCamera
from worker.publish.open_source import jpeg_encoder, open_source
from worker.publish.options import SourceOptions
from worker.publish.source import SourceError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a film and a folder of pictures, as the current one."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg())
    motion_jpeg(tmp_path / "film.avi", [jpeg()])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "kind", "live"),
    [
        ("film.avi", Film, False),
        ("photos", Folder, False),
        ("rtsp://127.0.0.1:1/x", LiveCamera, True),
        ("synthetic:fps=5,size=160x120", SimulatedCamera, True),
    ],
)
def test_each_kind_of_source(name: str, kind: type, live: bool) -> None:
    """A name opens its kind of source. Of a camera nothing is opened yet, since it may start later."""
    source = open_source(SourceOptions(source=name))
    assert isinstance(source, kind)
    assert (source.live, source.paced) == (live, kind is not LiveCamera)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ["film.avi", "photos", "synthetic:size=160x120"])
def test_fast_sources_are_not_paced(name: str) -> None:
    """With --fast nothing is waited for, so a simulated camera isn't live either."""
    source = open_source(SourceOptions(source=name, fast=True))
    assert (source.live, source.paced) == (False, False)


def test_a_webcam_is_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing webcam is an error at the start, because its index is wrong."""
    monkeypatch.setattr(module.LiveCamera, "from_webcam", lambda name, device, _encode: (name, device))
    assert open_source(SourceOptions(source="03")) == ("webcam 3", "03")
    monkeypatch.undo()
    with pytest.raises(SourceError, match="no webcam 99"):
        open_source(SourceOptions(source="99"))


def test_the_quality_of_jpegs() -> None:
    """A lower quality makes a smaller JPEG of the same picture."""
    small, large = (jpeg_encoder(quality)(numbered(5)) for quality in (10, 95))
    assert size(small) == size(large) == (160, 120)
    assert len(small) < len(large)
