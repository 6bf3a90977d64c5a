"""The model files: their folder, their checks and their download, with each of its failures."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from worker.hands import models
from worker.hands.models import ModelError, default_models_dir, ensure_models, fetch_models, find_models

CONTENT = {
    "palm": b"the palm model",
    "landmarks": b"the landmark model",
    "persons": b"the person model",
    "pose": b"the pose model",
}


def quiet(done, total):
    """Checks the progress, and shows none."""
    assert 0 <= done <= total


@pytest.fixture
def small_files(monkeypatch):
    """Replaces the models by files of a few bytes, so that a test can make wheels for them."""
    files = tuple(
        models.ModelFile(f"{name}.tflite", f"wheel/{name}.tflite", hashlib.sha256(content).hexdigest())
        for name, content in CONTENT.items()
    )
    monkeypatch.setattr(models, "FILES", files)


def wheel_of(contents):
    """Returns a download whose wheel has these contents."""

    def download(folder, progress):
        progress(0, 10)
        wheel = folder / "x.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in contents.items():
                archive.writestr(f"wheel/{name}.tflite", content)
        progress(10, 10)
        return wheel

    return download


def no_download(folder, progress):
    """Fails, because nothing should be downloaded."""
    raise AssertionError("downloaded")


def fill(folder, contents=CONTENT):
    """Puts files into a folder as if they had been downloaded."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/var/cache/me"}, Path("/var/cache/me/hamer-hand-counter/models")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/hamer-hand-counter/models"),
        ({"XDG_CACHE_HOME": ""}, Path.home() / ".cache/hamer-hand-counter/models"),
        ({}, Path.home() / ".cache/hamer-hand-counter/models"),
    ],
)
def test_default_folder(environ, expected):
    """The models are in the user's cache, as the XDG specification defines it."""
    assert default_models_dir(environ) == expected


def test_no_home_folder(monkeypatch):
    """Without a home folder the error names the flag."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ModelError, match="--models-dir"):
        default_models_dir({})


@pytest.mark.usefixtures("small_files")
def test_fetch_into_a_new_folder(tmp_path):
    """The folder is created, and has the models and nothing else afterwards."""
    folder = tmp_path / "a" / "b"
    paths = fetch_models(folder, quiet, wheel_of(CONTENT))
    assert paths == find_models(folder)
    assert {name: getattr(paths, name).read_bytes() for name in CONTENT} == CONTENT
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(f"{name}.tflite" for name in CONTENT)


@pytest.mark.usefixtures("small_files")
def test_models_in_place_are_neither_downloaded_nor_written(tmp_path, monkeypatch):
    """A folder with the models is enough, even if it can't be written."""
    fill(tmp_path)
    monkeypatch.setattr(Path, "mkdir", no_download)
    assert ensure_models(tmp_path, quiet, no_download) == fetch_models(tmp_path, quiet, no_download)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("find", [ensure_models, fetch_models])
def test_models_in_place_are_read_once(tmp_path, monkeypatch, find):
    """Each start checks them; what follows takes the checked paths."""
    fill(tmp_path)
    read, sha256_of = [], models.sha256_of
    monkeypatch.setattr(models, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    find(tmp_path, quiet, no_download)
    assert read == [file.name for file in models.FILES]


@pytest.mark.usefixtures("small_files")
def test_a_missing_model_is_named(tmp_path):
    """The error for a missing model names it and the command; ensure_models downloads just that one."""
    fill(tmp_path, {name: content for name, content in CONTENT.items() if name != "landmarks"})
    with pytest.raises(ModelError, match=r"no landmarks\.tflite in .*run `hand-counter models fetch`"):
        find_models(tmp_path)
    before = (tmp_path / "palm.tflite").stat().st_mtime_ns
    ensure_models(tmp_path, quiet, wheel_of({"landmarks": CONTENT["landmarks"]}))
    assert (tmp_path / "palm.tflite").stat().st_mtime_ns == before


@pytest.mark.usefixtures("small_files")
def test_a_wrong_model_is_an_error_until_it_is_fetched(tmp_path):
    """A wrong model is neither used nor replaced by ensure_models: the error has the file, both hashes and the remedy."""
    fill(tmp_path, {**CONTENT, "palm": b"tampered"})
    wrong, right = hashlib.sha256(b"tampered").hexdigest(), models.FILES[0].sha256
    for look in (find_models, lambda folder: ensure_models(folder, quiet, no_download)):
        with pytest.raises(ModelError) as caught:
            look(tmp_path)
        for part in (str(tmp_path / "palm.tflite"), wrong, right, "`hand-counter models fetch` replaces it"):
            assert part in str(caught.value)
    fetch_models(tmp_path, quiet, wheel_of(CONTENT))
    assert (tmp_path / "palm.tflite").read_bytes() == CONTENT["palm"]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    ("download", "says"),
    [
        (wheel_of({**CONTENT, "landmarks": b"another"}), "another wheel"),
        (wheel_of({"palm": CONTENT["palm"]}), r"the wheel .* has no landmarks\.tflite"),
        (lambda folder, _: folder / "nothing.whl", r"the wheel .* has no palm\.tflite"),
        (lambda _folder, _: Path(__file__), "not a zip file"),
    ],
)
def test_a_wrong_wheel_is_refused(tmp_path, download, says):
    """A wrong wheel, or one without the files, is an error, and no file gets its name."""
    with pytest.raises(ModelError, match=says):
        fetch_models(tmp_path, quiet, download)
    assert not (tmp_path / "landmarks.tflite").exists()
    assert not list(tmp_path.glob(".fetch-*"))


@pytest.mark.usefixtures("small_files")
def test_a_folder_that_cannot_be_written(tmp_path):
    """The error comes before the download, and names the folder and the flag."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=r"can't write the models to .*file/models.*--models-dir"):
        fetch_models(file / "models", quiet, no_download)


@pytest.mark.usefixtures("small_files")
def test_a_model_that_cannot_be_read(tmp_path):
    """A folder in a model's place is an error with its path."""
    (tmp_path / "palm.tflite").mkdir()
    with pytest.raises(ModelError, match=r"palm\.tflite can't be read"):
        ensure_models(tmp_path, quiet, no_download)


@pytest.mark.usefixtures("small_files")
def test_concurrent_downloads(tmp_path):
    """Two downloads at the same time both end with the models."""
    both_downloading = threading.Barrier(2, timeout=120)
    results = []

    def download(folder, progress):
        both_downloading.wait()
        return wheel_of(CONTENT)(folder, progress)

    def fetch():
        results.append(fetch_models(tmp_path, quiet, download))

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [find_models(tmp_path)] * 2


def test_a_python_without_pip(tmp_path, monkeypatch):
    """Without pip the error says how to add it."""
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"doesn't have: add it with `python -m ensurepip` or `uv pip install pip`"):
        fetch_models(tmp_path, quiet)


def test_no_network(tmp_path, monkeypatch):
    """If pip can't reach an index, the error has pip's own message and what to check."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # the discard port, closed
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(models, "PIP_RETRIES", 0)
    with pytest.raises(ModelError, match=r"pip failed: .*mediapipe.*Check that this machine reaches the package index"):
        fetch_models(tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_pip(tmp_path, monkeypatch):
    """Ctrl-C during a download leaves neither a pip process nor a partial file."""
    started = []
    popen = subprocess.Popen

    def start(command, **options):
        started.append(popen([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        return started[0]

    def interrupt(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(models.subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt):
        fetch_models(tmp_path, interrupt)
    assert started[0].poll() is not None
    assert list(tmp_path.iterdir()) == []


def test_pip_fetches_the_real_models(tmp_path):
    """The wheel of the package index has the expected hash and files; the progress only grows, to the wheel's size."""
    seen = []
    paths = fetch_models(tmp_path, lambda done, total: seen.append((done, total)))
    assert paths.palm.stat().st_size > 1e6
    assert seen[-1] == (models.WHEEL_BYTES, models.WHEEL_BYTES)
    assert seen == sorted(seen)
