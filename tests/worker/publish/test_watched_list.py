import logging
import os
from pathlib import Path

import pytest

from worker.publish.cameras_file import CamerasFileError
from worker.publish.watched_list import WatchedList


def listing(*names: str) -> str:
    """Returns a file with these cameras."""
    return "cameras: [" + ", ".join(f"{{name: {name}, source: 0}}" for name in names) + "]\n"


def names(watched: WatchedList) -> list[str]:
    """Returns the cameras that count now."""
    return [camera.stream_name for camera in watched.current.cameras]


def noticed(watched: WatchedList) -> bool:
    """Returns whether there is a new list, at the second look at what is new."""
    return not watched.changed() and watched.changed()


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """Its beginning may be a valid list, which would end the cameras of the rest."""
    path = tmp_path / "cameras.yaml"
    whole = "cameras:\n" + "".join(f"  - {{name: {name}, source: 0}}\n" for name in "abcd")
    path.write_text(whole)
    watched = WatchedList(path)
    for lines in (1, 2, 3, 4):
        path.write_text("".join(whole.splitlines(keepends=True)[:lines]))
        assert not watched.changed()
    path.write_text(whole + "  - {name: e, source: 0}\n")
    assert not watched.changed()
    assert watched.changed()
    assert names(watched) == ["a", "b", "c", "d", "e"]


def test_a_pipe_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    """Nobody waits for its writer, and the list before stays."""
    path = tmp_path / "cameras.yaml"
    path.write_text(listing("a"))
    watched = WatchedList(path)
    path.unlink()
    os.mkfifo(path)
    assert not noticed(watched)
    assert "can't be read: it is a pipe" in str(watched.error)
    assert names(watched) == ["a"]
    path.unlink()
    path.write_text(listing("b"))
    assert noticed(watched)
    assert watched.error is None


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    """Once for each change."""
    path = tmp_path / "cameras.yaml"
    path.write_text(listing("a"))
    watched = WatchedList(path)
    assert names(watched) == ["a"]
    assert not noticed(watched)
    path.write_text(listing("a", "b"))
    assert noticed(watched)
    assert not noticed(watched)
    assert names(watched) == ["a", "b"]


def test_a_mounted_configmap(tmp_path: Path) -> None:
    """The kubelet replaces a link to the folder of the files, whose sizes and times may be the same."""
    for version, camera in (("1", "a"), ("2", "b")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "cameras.yaml").write_text(listing(camera))
        os.utime(tmp_path / version / "cameras.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "cameras.yaml").symlink_to("..data/cameras.yaml")
    watched = WatchedList(tmp_path / "cameras.yaml")
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert noticed(watched)
    assert names(watched) == ["b"]


def test_a_changed_secret_changes_its_camera(tmp_path: Path) -> None:
    """A file that the list names is watched as well, from the moment that it is named."""
    path, url = tmp_path / "cameras.yaml", tmp_path / "door.url"
    path.write_text(listing("a"))
    watched = WatchedList(path)
    url.write_text("rtsp://one/x")
    path.write_text("cameras: [{name: door, source-file: door.url}]")
    assert noticed(watched)
    assert not noticed(watched)
    url.write_text("rtsp://another/x")
    assert noticed(watched)
    assert watched.current.cameras[0].source.source == "rtsp://another/x"


def test_while_a_file_is_wrong_the_last_list_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is said once, with the lines; also of a file that is gone."""
    path = tmp_path / "cameras.yaml"
    path.write_text(listing("a"))
    watched = WatchedList(path)
    with caplog.at_level(logging.ERROR):
        path.write_text("cameras:\n  - {name: b}\n")
        assert not noticed(watched)
        assert not noticed(watched)
        assert caplog.messages[0].startswith(f"{path}:2: camera b: give one of")
        assert caplog.messages[1:] == ["the cameras stay as they are"]
        assert watched.error is not None
        path.unlink()
        assert not noticed(watched)
        assert "can't be read" in caplog.messages[2]
    assert names(watched) == ["a"]
    path.write_text(listing("c"))
    assert noticed(watched)
    assert (names(watched), watched.error) == (["c"], None)


def test_a_missing_file_that_appears_makes_the_list_valid(tmp_path: Path) -> None:
    """Although the list itself isn't touched again."""
    path = tmp_path / "cameras.yaml"
    path.write_text(listing("a"))
    watched = WatchedList(path)
    path.write_text("cameras: [{name: door, source-file: door.url}]")
    assert not noticed(watched)
    (tmp_path / "door.url").write_text("rtsp://one/x")
    assert noticed(watched)
    assert (names(watched), watched.error) == (["door"], None)


def test_a_list_that_is_wrong_from_the_start(tmp_path: Path) -> None:
    """Is an error."""
    with pytest.raises(CamerasFileError):
        WatchedList(tmp_path / "none.yaml")
