"""``hand-counter detect``."""

import json
import struct
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from support.models.synthetic_hands import scene
from support.processes.programs import REPOSITORY

from worker.detect import ImageError, detect_images, drawing_path, expand, overwritten, read_image, run_detect
from worker.frame_counter import count_hands
from worker.hands.detection import Hands
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.effort import Effort
from worker.options import HandsOptions
from worker.results import SCHEMA

BOMB = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6)
"""The header of a picture of 3.6 billion pixels."""


class FakeDetector:
    """A detector that finds one hand, as large as the picture."""

    name = "fake"
    engine = "fake"

    def detect(self, image):
        """Returns the hand."""
        height, width = image.shape[:2]
        return Hands(
            np.array([[0, 0, width, height]], np.float32),
            np.array([True]),
            np.array([0.87654], np.float32),
            np.full((1, 21, 2), np.nan, np.float32),
        )


@pytest.fixture
def photo(tmp_path):
    """A picture of two synthetic hands, right and left."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), scene(((200, 260), 100, 0, True), ((450, 260), 100, 0, False))[0])
    return str(path)


@pytest.fixture
def in_place(models, litert, monkeypatch):
    """The folder of the downloaded models, whose networks are loaded once for all tests."""
    monkeypatch.setattr("worker.hands.litert_engine.LiteRtEngine", lambda _models, _threads: litert)
    return models.palm.parent


def with_orientation(jpeg, orientation):
    """Returns a JPEG with an EXIF orientation."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_json(photo, in_place, capsys, monkeypatch):
    """The keys are the paths as given; each has a result with the fields of the queue's; nothing else is printed."""
    monkeypatch.chdir(Path(photo).parent)
    assert run_detect(["./photo.png"], json_output=True, hands=HandsOptions(models_dir=in_place)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["./photo.png"]
    result = printed["./photo.png"]
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(result, schema)
    assert set(result) == set(schema["properties"]) - {"dropped"}
    assert (result["stream_name"], result["ts"], result["entry_id"]) == ("photo.png", 0, None)
    assert (result["image"], result["hand_count"]) == ({"width": 640, "height": 480}, 2)
    hands = sorted(result["hands"], key=lambda hand: hand["box"][0])
    assert [hand["is_right"] for hand in hands] == [True, False]
    assert all(set(hand) == {"box", "is_right", "score", "keypoints"} for hand in hands)
    assert all(0.5 <= hand["score"] <= 1 for hand in hands)
    assert hands[0]["box"][2] < 320 < hands[1]["box"][0]


def test_the_fields_are_those_of_the_queue(photo, in_place, detector, capsys):
    """A result on the command line has every field of one in the queue, of the frame and of each hand."""
    assert run_detect([photo], json_output=True, hands=HandsOptions(models_dir=in_place)) == 0
    (printed,) = json.loads(capsys.readouterr().out).values()
    queued = json.loads(count_hands("cam1", 1.0, read_image(photo), detector).to_json("1-2", 0.1))
    assert printed.keys() == queued.keys()
    assert printed["hands"] == queued["hands"]


def test_nothing_is_dropped_without_hamer(photo, in_place, capsys):
    """--explain is allowed without HaMeR, and has nothing to explain."""
    assert run_detect([photo], json_output=True, hands=HandsOptions(models_dir=in_place), explain=True) == 0
    assert [result["dropped"] for result in json.loads(capsys.readouterr().out).values()] == [[]]


def test_the_sample_of_the_readme(in_place, capsys, monkeypatch):
    """Gives what the README says."""
    monkeypatch.chdir(REPOSITORY)
    assert run_detect(["docs/hands.jpg"], hands=HandsOptions(models_dir=in_place)) == 0
    assert f"```text\n{capsys.readouterr().out}```" in (REPOSITORY / "README.md").read_text()


def test_text(photo, in_place, capsys):
    """Without --json there is one line per picture and one per hand."""
    assert run_detect([photo], hands=HandsOptions(models_dir=in_place)) == 0
    first, *hands = capsys.readouterr().out.splitlines()
    assert first == f"{photo}: 2 hands"
    assert sorted(line.split()[0] for line in hands) == ["left", "right"]


def test_settings_reach_the_detector(photo, in_place, capsys):
    """With a score that no hand reaches there are no hands."""
    assert run_detect([photo], hands=HandsOptions(min_score=1.0, effort=Effort.FAST, models_dir=in_place)) == 0
    assert capsys.readouterr().out == f"{photo}: 0 hands\n"


@pytest.mark.parametrize("json_output", [True, False])
def test_a_bad_picture_does_not_stop_the_others(photo, tmp_path, in_place, capsys, json_output):
    """A picture that can't be read is named on standard error, the others are processed, and the exit code is 1."""
    text, empty = tmp_path / "text.jpg", tmp_path / "empty.jpg"
    text.write_text("no picture")
    empty.write_bytes(b"")
    missing = str(tmp_path / "missing.jpg")
    images = [missing, str(text), str(empty), photo]
    assert run_detect(images, json_output=json_output, hands=HandsOptions(models_dir=in_place)) == 1
    captured = capsys.readouterr()
    for path in images[:3]:
        assert captured.err.count(path) == 1
        assert path not in captured.out
    assert photo in captured.out


def test_draw(photo, tmp_path, in_place):
    """Annotated copies of the same size are written to a new folder; the originals are unchanged."""
    before = Path(photo).read_bytes()
    assert run_detect([photo], draw_dir=tmp_path / "new" / "out", hands=HandsOptions(models_dir=in_place)) == 0
    drawn = cv2.imread(str(tmp_path / "new" / "out" / "photo.png"))
    assert drawn.shape == (480, 640, 3)
    assert (drawn != cv2.imread(photo)).any()
    assert Path(photo).read_bytes() == before


def test_a_drawing_that_cannot_be_written(photo, tmp_path):
    """The hands are printed nevertheless, followed by the error."""
    (tmp_path / "file").write_bytes(b"")
    (_, result), (_, error) = detect_images([photo], FakeDetector(), tmp_path / "file")
    assert result.hand_count == 1
    assert isinstance(error, ImageError)
    assert "can't be written" in str(error)


def test_drawings_of_one_name_do_not_overwrite_each_other():
    """Copies of pictures with the same name are numbered; without a picture's suffix the copy is a PNG."""
    taken = set()
    names = [
        drawing_path(path, Path("out"), taken).name for path in ("a/x.jpg", "b/x.jpg", "c/x.jpg", "d/x", "e/x.gif")
    ]
    assert names == ["x.jpg", "x-2.jpg", "x-3.jpg", "x.png", "x.gif.png"]


def test_folders_expand_to_their_pictures(tmp_path):
    """A folder is replaced by its pictures in order of their names; each file is listed once, as given."""
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub.png").mkdir()
    folder = str(tmp_path)
    assert expand([folder, "x.dat", f"{folder}/a.png"]) == [f"{folder}/a.png", f"{folder}/b.JPG", "x.dat"]


def test_a_folder_without_pictures_is_an_error(tmp_path, in_place, capsys):
    """A folder without pictures is exit code 1."""
    assert run_detect([str(tmp_path)], hands=HandsOptions(models_dir=in_place)) == 1
    assert "no pictures in" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures(tmp_path, channels):
    """Pictures of any format have three channels of 8 bits."""
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.full((10, 20, channels), 77, np.uint8))
    image = read_image(str(path))
    assert image.shape == (10, 20, 3)
    assert image.dtype == np.uint8


def test_exif_orientation_is_honoured(tmp_path):
    """A picture that a camera stored sideways is read upright."""
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20] = 255
    _, jpeg = cv2.imencode(".jpg", image)
    path = tmp_path / "sideways.jpg"
    path.write_bytes(with_orientation(jpeg.tobytes(), 6))  # upright after a rotation by 90 degrees clockwise
    upright = read_image(str(path))
    assert upright.shape == (80, 40, 3)
    assert upright[5, 20].min() > 200
    assert upright[70, 20].max() < 50


def test_a_model_error_is_one_clear_line(photo, tmp_path, capsys):
    """A wrong model is exit code 1, and one line on standard error that says what to do."""
    (tmp_path / "palm_detection_full.tflite").write_bytes(b"tampered")
    assert run_detect([photo], HandsOptions(models_dir=tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "`hand-counter models fetch` replaces it" in error


def test_the_models_are_loaded_once_for_all_pictures(photo, in_place, monkeypatch):
    """The models are loaded once, however many pictures there are."""
    made = []
    monkeypatch.setattr(
        "worker.hands.detector.PalmLandmarkDetector",
        lambda *args, **kw: made.append(1) or PalmLandmarkDetector(*args, **kw),
    )
    assert run_detect([photo, f"{Path(photo).parent}/./photo.png"], hands=HandsOptions(models_dir=in_place)) == 0
    assert made == [1]


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "other"])
def test_copies_do_not_overwrite_their_originals(tmp_path, capsys, link):
    """If a copy would be written over an input, by whatever link, nothing is done, and the exit code is 1."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    out.mkdir()
    first, second = photos / "a.png", photos / "b.png"
    for path in (first, second):
        cv2.imwrite(str(path), np.full((20, 20, 3), 77, np.uint8))
    if link == "same":
        out = tmp_path / "out" / ".." / "photos"
    elif link == "symlink":
        (out / "a.png").symlink_to(first)
    elif link == "hardlink":
        (out / "a.png").hardlink_to(first)
    else:  # the copy of one input would replace another input
        (out / "b.png").hardlink_to(first)
    before = {path: path.read_bytes() for path in (first, second)}
    assert run_detect([str(photos)], draw_dir=out) == 1
    assert "would overwrite" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (first, second)} == before


def test_an_earlier_copy_is_replaced(tmp_path):
    """A file that isn't an input may be written again."""
    (tmp_path / "a.png").write_bytes(b"an earlier copy")
    assert overwritten([str(tmp_path / "x" / "a.png")], tmp_path) == []


@pytest.mark.parametrize("content", [BOMB, b"BM" + bytes(60), b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "])
def test_no_codec_ends_the_others(tmp_path, content):
    """A picture on which a codec fails, with an exception too, is that picture's error."""
    bad, good = tmp_path / "bad.bmp", tmp_path / "good.png"
    bad.write_bytes(content)
    cv2.imwrite(str(good), np.full((20, 20, 3), 77, np.uint8))
    (_, error), (path, result) = detect_images([str(bad), str(good)], FakeDetector())
    assert isinstance(error, ImageError)
    assert str(error).count("\n") == 0
    assert path == str(good)
    assert result.hand_count == 1


def test_a_copy_that_cannot_be_encoded(tmp_path):
    """The hands of a picture whose copy its format can't hold are printed, and the next picture is processed."""
    paths = [tmp_path / "wide.webp", tmp_path / "b.png"]
    paths[0].write_bytes(cv2.imencode(".png", np.zeros((2, 20_000, 3), np.uint8))[1].tobytes())
    cv2.imwrite(str(paths[1]), np.full((20, 20, 3), 77, np.uint8))
    found = list(detect_images(map(str, paths), FakeDetector(), tmp_path / "out"))
    assert [isinstance(each, ImageError) for _, each in found] == [False, True, False]
    assert "can't be encoded as .webp" in str(found[1][1])


def test_a_folder_in_order_of_numbers(tmp_path):
    """2 precedes 10."""
    for name in ("10.png", "2.png", "1.png"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(path).name for path in expand([str(tmp_path)])] == ["1.png", "2.png", "10.png"]


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, capsys):
    """The system's reason, without a traceback."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert run_detect([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"hand-counter: {tmp_path}: Permission denied\n"


def test_standard_output_that_fails_ends_nothing(tmp_path, in_place, photo, monkeypatch, capsys):
    """Copies are written nevertheless; the exit code is 1, and standard error has the reason."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run_detect([photo], HandsOptions(models_dir=in_place), draw_dir=tmp_path / "out") == 1
    assert "standard output: No space left on device" in capsys.readouterr().err
    assert (tmp_path / "out" / "photo.png").exists()
