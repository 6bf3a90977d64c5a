import os
from pathlib import Path

import pytest

from worker.publish.cameras_file import CamerasFileError, read_cameras
from worker.publish.options import Reception, SourceOptions

ENVIRON = {"YARD_URL": "rtsp://me:secret@yard/x", "PASSWORD": "se/cret"}


def read(folder: Path, text: str):
    """Reads a file with this text; returns its cameras."""
    (folder / "cameras.yaml").write_text(text)
    return read_cameras(folder / "cameras.yaml", ENVIRON).cameras


def test_a_camera_has_the_flags_of_publish(tmp_path: Path) -> None:
    """By their names; what isn't given is as in publish, or as the file's defaults say."""
    (tmp_path / "url").write_text("rtsp://me:secret@gate/x\n")
    door, yard, gate = read(
        tmp_path,
        """\
defaults:
  transport: udp
  labels: {site: Berlin}
cameras:
  - name: door
    source: rtsp://me:{PASSWORD}@door/x
    source-password-file: door.password
    transport: tcp
    source-timeout: 2.5
    source-fps: 0.5
    jpeg-quality: 70
    labels: {floor: 1}
  - name: yard
    source-variable: YARD_URL
  - {name: gate, source-file: url}
""",
    )
    assert (door.stream_name, door.labels) == ("door", {"floor": "1"})
    assert door.source == SourceOptions(
        source="rtsp://me:{PASSWORD}@door/x",
        password_file=tmp_path / "door.password",
        folder_fps=0.5,
        reception=Reception("tcp", 2.5),
        jpeg_quality=70,
    )
    assert yard.source == SourceOptions(source=ENVIRON["YARD_URL"], reception=Reception("udp", 5.0))
    assert (yard.labels, gate.source.source) == ({"site": "Berlin"}, "rtsp://me:secret@gate/x")
    assert "secret" not in repr((door, yard, gate))


def test_names_are_taken_as_they_are_written(tmp_path: Path) -> None:
    """YAML would make them numbers and truth values."""
    cameras = read(tmp_path, "cameras: [{name: 007, source: 0}, {name: no, source: 1}, {name: 1e3, source: 2}]")
    assert [(camera.stream_name, camera.source.source) for camera in cameras] == [
        ("007", "0"),
        ("no", "1"),
        ("1e3", "2"),
    ]


def test_paths_begin_in_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of films, folders and secrets; and a password may be a variable."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    film, photos, camera = read(
        tmp_path / "conf",
        """\
cameras:
  - {name: a, source: films/a.mp4, loop: true}
  - {name: b, source: photos, watch: true}
  - {name: c, source: "rtsp://me:{PASSWORD}@c/x", source-password-variable: PASSWORD}
""",
    )
    assert film.source.source == str(tmp_path / "conf" / "films" / "a.mp4")
    assert photos.source.source == str(tmp_path / "conf" / "photos")
    assert camera.source.password == "se/cret"


def test_a_file_without_cameras_is_valid(tmp_path: Path) -> None:
    """They may be added later."""
    assert read(tmp_path, "cameras: []\n") == ()


HEAD = "cameras:\n  - name: door\n    source: rtsp://me:secret@door/x\n"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", ["0: cameras is missing"]),
        ("door\n", ["1: expected the keys cameras and, if wanted, defaults"]),
        ("cameras:\n  door: 1\n", ["1: cameras: must be a valid list"]),
        ("cameras: [\n", ["2: this isn't YAML"]),
        ("cameras:\n  - name: *secret\n", ["2: this isn't YAML: found undefined alias"]),
        ("cameras: \0\n", ["0: this isn't YAML, or not text in UTF-8"]),
        ("camera:\n  - name: door\n", ["1: unknown key camera, did you mean cameras?", "1: cameras is missing"]),
        (HEAD + "    transprt: udp\n", ["4: camera door: unknown key transprt, did you mean transport?"]),
        (HEAD + "    rtsp://me:secret@door/x: 1\n", ["2: camera door: an unknown key"]),
        (HEAD + "    transport: upd\n", ["4: camera door: transport: must be 'tcp' or 'udp'"]),
        (HEAD + "    source-fps: 0\n", ["4: camera door: source-fps: must be greater than 0"]),
        (HEAD + "    source-fps: secret\n", ["4: camera door: source-fps: expected a decimal number"]),
        (HEAD + "    loop: perhaps\n", ["4: camera door: loop: must be a valid boolean"]),
        (HEAD + "    labels: secret\n", ["4: camera door: labels: must be a valid dictionary"]),
        (HEAD + "    labels: {a: [1]}\n", ["4: camera door: labels.a: must be a valid string"]),
        (HEAD + "    name: yard\n", ["4: name is given twice"]),
        (
            HEAD + "    source-variable: YARD_URL\n",
            ["2: camera door: give one of source, source-file, source-variable"],
        ),
        (HEAD + "  - name: door\n    source: 1\n", ["4: camera door: the name is that of the camera in line 2"]),
        (HEAD + "  - source: 1\n", ["4: camera number 2: name is missing"]),
        (HEAD + "  - name: ''\n    source: 1\n", ["4: camera number 2: name: stream_name must not be empty"]),
        ("cameras:\n  - name: yard\n", ["2: camera yard: give one of source, source-file, source-variable"]),
        ("cameras:\n  - {name: a, source-variable: NONE}\n", ["2: camera a: the environment has no variable NONE"]),
        ("cameras:\n  - {name: a, source-file: gone}\n", ["2: camera a: source-file FOLDER/gone: No such file"]),
        ("cameras:\n  - {name: a, source-file: empty}\n", ["2: camera a: source-file FOLDER/empty is empty"]),
        ("cameras:\n  - {name: a, source-file: binary}\n", ["2: camera a: source-file FOLDER/binary isn't text"]),
        ("cameras:\n  - {name: a, source: 'rtsp://me:se/cret@h/x'}\n", ["2: camera a: expected a URL with a host"]),
        ("cameras:\n  - {name: a, source-file: pipe}\n", ["2: camera a: source-file FOLDER/pipe: it is a pipe"]),
        ("cameras:\n  - {name: a, source-file: long}\n", ["2: camera a: source-file FOLDER/long isn't text"]),
        (
            "cameras:\n  - {name: a, source: 'rtsp://u:{PASSWORD}@h/x', source-password-file: pipe}\n",
            ["2: camera a: source-password-file FOLDER/pipe is a pipe"],
        ),
        (
            "cameras:\n  - {name: a, source: 'rtsp://{PASSWORD}@h/x'}\n",
            ["2: camera a: {PASSWORD} needs source-password"],
        ),
        ("cameras:\n  - {name: a, source: 0, watch: true}\n", ["2: camera a: watch needs a folder that exists"]),
        ("defaults: {name: a}\ncameras: []\n", ["1: unknown key name; there are transport, source-timeout"]),
        ("defaults: {transport: x}\ncameras: [{name: a, source: 1}]\n", ["1: transport: must be 'tcp' or 'udp'"]),
        ("defaults: &a {}\ncameras: [{name: a, source: 1, labels: *a}]\n", ["1: aliases (*) aren't supported"]),
        ("cameras: &a [*a]\n", ["1: aliases (*) aren't supported"]),
        ("cameras: [{[a]: 1}]\n", ["1: a key must be a word"]),
        ("cameras: " + "[" * 10**5 + "]" * 10**5, ["1: more than 20 lists and mappings in each other"]),
        ('cameras: [{name: "a\\nb", source: 0}]\n', ["1: camera number 1: name: stream_name must not contain control"]),
    ],
)
def test_errors_name_line_and_camera(tmp_path: Path, text: str, errors: list[str]) -> None:
    """All of them, in the order of the file, and none repeats a value."""
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "long").write_bytes(b"x" * 65537)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CamerasFileError) as raised:
        read(tmp_path, text)
    problems = [f"{each.line}: {each}".replace(str(tmp_path), "FOLDER") for each in raised.value.problems]
    assert len(problems) == len(errors), problems
    for problem, error in zip(sorted(problems), sorted(errors), strict=True):
        assert problem.startswith(error), problem
    assert "secret" not in str(raised.value)
    assert all(line.startswith(str(tmp_path / "cameras.yaml") + ":") for line in raised.value.lines)


@pytest.mark.parametrize("source", ["x" * 5000, "x" * 300 + "/film.mp4"])
def test_a_path_that_cannot_be_looked_at_is_that_of_a_film(tmp_path: Path, source: str) -> None:
    """Whether it can be read shows when it is opened, which fails for its camera alone."""
    (camera,) = read(tmp_path, f"cameras: [{{name: a, source: {source}}}]")
    assert camera.source.source == str(tmp_path / source)


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    """So that a long file isn't corrected one line after the other."""
    with pytest.raises(CamerasFileError) as raised:
        read(tmp_path, "cameras:\n  - {name: a}\n  - {name: b, source: 1, loop: x}\n  - {name: c, source: 1, y: 2}\n")
    assert [problem.line for problem in raised.value.problems] == [2, 3, 4]


def test_a_file_that_is_missing_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is an error too."""
    with pytest.raises(CamerasFileError, match=r"none: can't be read: No such file"):
        read_cameras(tmp_path / "none")
    with pytest.raises(CamerasFileError, match="can't be read: it is a pipe, a folder or a device"):
        read_cameras(tmp_path)
    with pytest.raises(CamerasFileError, match="can't be read: it is a pipe, a folder or a device"):
        read_cameras(Path("/dev/zero"))
    monkeypatch.setattr("worker.publish.cameras_file.MOST_BYTES", 5)
    with pytest.raises(CamerasFileError, match="more than 5 bytes"):
        read(tmp_path, "cameras: []")
