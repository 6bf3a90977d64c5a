"""A source is tried for a moment."""

import json
from pathlib import Path

import pytest
from support.camera_servers import Reply, http_server
from support.publishing import MotionJpegCamera, h264, jpeg

from worker.__main__ import main
from worker.publish.options import Reception, SourceOptions
from worker.publish.trial import Trial, try_source


def tried(source: str, seconds: float = 0.2) -> tuple[Trial, bytes]:
    """What is found about a source."""
    return try_source(SourceOptions(source=source, reception=Reception(timeout=20.0)), seconds)


def test_a_film(tmp_path: Path) -> None:
    """Its codec, size and rate, and its first picture; it isn't read on."""
    trial, picture = tried(str(h264(tmp_path / "film.mp4", [index / 25 for index in range(10)])))
    assert (trial.kind, trial.codec, trial.nominal_fps, trial.frames) == ("film", "h264", pytest.approx(25.0), 1)
    assert (picture[:2], trial.error, trial.measured_fps) == (b"\xff\xd8", "", None)
    assert trial.size.count("x") == 1


def test_a_camera() -> None:
    """The rate at which its frames arrive."""
    camera = MotionJpegCamera([jpeg(1)])
    try:
        trial, picture = tried(camera.url)
    finally:
        camera.close()
    assert (trial.kind, trial.codec, trial.error) == ("camera", "mjpeg", "")
    assert trial.measured_fps is not None
    assert picture


@pytest.mark.parametrize(("source", "kind"), [("synthetic:fps=5,hands=1", "simulated"), ("folder", "folder")])
def test_other_sources(source: str, kind: str, tmp_path: Path) -> None:
    """Their first picture."""
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    trial, picture = tried(str(tmp_path) if source == "folder" else source)
    assert (trial.kind, trial.frames, bool(picture)) == (kind, 1, True)


def test_a_snapshot() -> None:
    """A URL that answers with one picture."""
    with http_server({"/snapshot.jpg": Reply(jpeg(1), kind="image/jpeg")}) as address:
        trial, picture = tried(f"{address}/snapshot.jpg")
    assert (trial.kind, bool(picture)) == ("snapshot", True)


def test_failures(tmp_path: Path) -> None:
    """The reason, without a picture and without the password."""
    for source in (str(tmp_path / "none.mp4"), str(tmp_path), "http://me:hunter2@127.0.0.1:1/x"):
        trial, picture = tried(source)
        assert trial.error
        assert "hunter2" not in trial.error
        assert not picture


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints a sentence or JSON, writes the first picture, and fails with the reason."""
    film, shot = h264(tmp_path / "film.mp4", [0.0, 0.04, 0.08]), tmp_path / "shot.jpg"
    assert main(["probe", str(film), "--snapshot", str(shot)]) == 0
    assert ": film, h264, " in capsys.readouterr().out
    assert shot.read_bytes()[:2] == b"\xff\xd8"
    assert main(["probe", str(film), "--snapshot", str(tmp_path / "none" / "shot.jpg")]) == 1
    assert main(["probe", str(tmp_path / "none.mp4"), "--json"]) == 1
    assert "no such file" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    (tmp_path / "source").write_text(str(film))
    assert main(["probe", "--source-file", str(tmp_path / "source"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["codec"] == "h264"


@pytest.mark.parametrize("words", [[], ["x.mp4", "--source-file", "y"], ["--source-file", "/none"], ["rtsp://"]])
def test_wrong_usage(words: list[str]) -> None:
    """Exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["probe", *words])
    assert ended.value.code == 2
