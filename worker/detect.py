"""``hand-counter detect``: finds the hands in picture files, without a queue or a limit."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from process.output import Output
from worker.backend import Backend, BackendError, Drawing, open_backend
from worker.hands.detection import HandDetector, Hands
from worker.hands.draw import annotate
from worker.options import HandsOptions
from worker.picture_files import decode_any, encode, pictures_in
from worker.picture_header import PICTURE_SUFFIXES, PictureError
from worker.results import FrameResult, dropped_objects

_MAX_PIXELS = 2**30
"""What OpenCV decodes. A user may look at larger pictures than a worker, which gets them from anybody."""


class ImageError(Exception):
    """A picture can't be read, or its annotated copy can't be written; the text names the file."""


def expand(paths: Iterable[str]) -> list[str]:
    """Replaces each folder by its pictures, in order of their names and numbers; skips subfolders and repeated paths.

    Raises:
        OSError: a folder can't be read.
    """
    expanded: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            expanded += (os.path.join(path, entry.name) for entry in pictures_in(Path(path)))  # noqa: PTH118 - keeps "./" as given
        else:
            expanded.append(path)
    return list(dict.fromkeys(expanded))


def read_image(path: str) -> NDArray[np.uint8]:
    """Reads a picture upright (its EXIF orientation is applied).

    Returns:
        (H, W, 3) uint8 BGR; grey and transparent pictures are converted.

    Raises:
        ImageError: there is no such file, or it isn't a picture.
    """
    try:
        return decode_any(Path(path).read_bytes(), _MAX_PIXELS)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    except PictureError as error:
        raise ImageError(f"{path}: {error}") from error


def drawing_path(path: str, draw_dir: Path, taken: set[Path]) -> Path:
    """Returns the path of a picture's annotated copy: the picture's name, numbered if it is taken already."""
    name, number = Path(path), 1
    suffix = name.suffix if name.suffix.lower() in PICTURE_SUFFIXES else f"{name.suffix}.png"
    target = draw_dir / f"{name.stem}{suffix}"
    while target in taken:
        number += 1
        target = draw_dir / f"{name.stem}-{number}{suffix}"
    taken.add(target)
    return target


def detect_images(
    paths: Iterable[str], detector: HandDetector, draw_dir: Path | None = None, draw: Drawing = annotate
) -> Iterator[tuple[str, FrameResult | ImageError]]:
    """Finds the hands of one picture after the other.

    Args:
        paths: files.
        detector: finds the hands.
        draw_dir: folder for annotated copies, created if it is missing; None draws nothing.
        draw: draws the hands into a copy of the picture.

    Yields:
        Each path with its result, whose stream is the file's name and whose ts is 0, followed by the path with an error if
        the copy couldn't be written; or the path with the error of a picture that can't be read. An error doesn't stop
        the others.
    """
    taken: set[Path] = set()
    for path in paths:
        target = drawing_path(path, draw_dir, taken) if draw_dir is not None else None
        try:
            started = time.perf_counter()
            image = read_image(path)
            decoded = time.perf_counter()
            hands = detector.detect(image)
            yield path, _result(path, detector, image, hands, decoded - started, time.perf_counter() - decoded)
            if target is not None:
                _write(target, draw(image, hands))
        except ImageError as error:
            yield path, error


def overwritten(paths: Iterable[str], draw_dir: Path) -> list[str]:
    """Returns the pictures that annotated copies would overwrite, under whatever name or link the copies would reach them."""
    paths, taken = list(paths), set[Path]()
    targets = {file for path in paths if (file := _file(drawing_path(path, draw_dir, taken)))}
    return [path for path in paths if _file(Path(path)) in targets]


def _file(path: Path) -> tuple[int, int] | None:
    """Returns the device and the inode of a file, None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _result(
    path: str, detector: HandDetector, image: NDArray[np.uint8], hands: Hands, decode_s: float, detect_s: float
) -> FrameResult:
    height, width = image.shape[:2]
    return FrameResult(
        stream_name=Path(path).name,
        ts=0.0,
        backend=detector.name,
        engine=detector.engine,
        width=width,
        height=height,
        hands=hands,
        decode_s=decode_s,
        detect_s=detect_s,
    )


def as_text(path: str, hands: Hands, *, explain: bool = False) -> str:
    """Returns a picture's hands as lines for people.

    Args:
        path: of the picture.
        hands: its hands.
        explain: also names those that were found and aren't counted.
    """
    lines = [f"{path}: {len(hands)} {'hand' if len(hands) == 1 else 'hands'}", *_lines(hands)]
    if explain:
        dropped = hands.dropped()
        described = zip(_lines(dropped.hands), dropped.verdicts, dropped.reasons, strict=True)
        lines += [f"{line}  dropped, {verdict}: {reason}" for line, verdict, reason in described]
    return "\n".join(lines)


def _lines(hands: Hands) -> list[str]:
    lines = []
    for box, is_right, score in zip(hands.boxes, hands.is_right, hands.scores, strict=True):
        x0, y0, x1, y1 = (round(float(value)) for value in box)
        side = "right" if is_right else "left"
        lines.append(f"  {side:5}  score {score:.2f}  box {x0},{y0} to {x1},{y1}")
    return lines


def as_object(result: FrameResult, *, explain: bool = False) -> dict[str, object]:
    """Returns a picture's result: the fields of one in the queue, and `dropped` if it is to be explained."""
    return result.fields() | ({"dropped": dropped_objects(result.hands.dropped())} if explain else {})


def run_detect(
    images: Sequence[str],
    hands: HandsOptions | None = None,
    *,
    json_output: bool = False,
    draw_dir: Path | None = None,
    explain: bool = False,
) -> int:
    """Finds the hands in pictures and prints them.

    Args:
        images: files, or folders whose pictures are all processed.
        hands: how hands are found; None means the defaults.
        json_output: prints one JSON object {image: result} at the end, with results as in the queue, instead of lines.
        draw_dir: folder for annotated copies.
        explain: prints the hands that HaMeR dropped as well, with the reason.

    Returns:
        The exit code: 0 done, 1 if the models, a picture or standard output failed, with the reason on standard error.
    """
    try:
        paths = expand(images)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}")
    if not paths:
        return _fail(f"no pictures in {', '.join(images)}")
    if draw_dir is not None and (inputs := overwritten(paths, draw_dir)):
        return _fail(
            f"--draw {draw_dir} would overwrite {', '.join(inputs[:3])}{', …' if inputs[3:] else ''}: give another folder"
        )
    # More than four threads don't help such small models.
    options = replace(hands or HandsOptions(), num_threads=min(4, os.cpu_count() or 1))
    try:
        backend = open_backend(options)
    except BackendError as error:
        return _fail(str(error))
    try:
        return _detect_and_print(paths, backend, draw_dir, json_output=json_output, explain=explain)
    finally:
        backend.close()


def _detect_and_print(
    paths: Sequence[str], backend: Backend, draw_dir: Path | None, *, json_output: bool, explain: bool
) -> int:
    code, output = 0, Output(sys.stdout)
    found: dict[str, dict[str, object]] = {}
    for path, result in detect_images(paths, backend.make_detector(), draw_dir, backend.draw):
        if isinstance(result, ImageError):
            code = _fail(str(result))
        elif json_output:
            found[path] = as_object(result, explain=explain)
        else:
            output.line(as_text(path, result.hands, explain=explain))
    if json_output:
        output.line(json.dumps(found, indent=2))
    return _fail(f"results can't be written to standard output: {output.problem}") if output.problem else code


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes a picture in the format that its suffix names. Raises ImageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image, path.suffix))
    except (OSError, PictureError) as error:
        raise ImageError(f"{path}: can't be written: {error}") from error


def _fail(message: str) -> int:
    Output(sys.stderr).line(f"hand-counter: {message}")
    return 1
