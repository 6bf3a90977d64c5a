"""`hand-counter detect` and `hand-counter models fetch`: hands in pictures, without a queue or a limit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.backend import Backend, BackendError, Drawing, open_backend
from worker.hands.decision import MIN_SCORE
from worker.hands.detection import HandDetector, Hands
from worker.hands.draw import annotate
from worker.hands.models import ModelError, default_models_dir, fetch_models
from worker.hands.progress import download_progress

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""What counts as a picture in a folder; a file that is named itself may be called anything."""


class ImageError(Exception):
    """A picture can't be read or its drawing can't be written; the text names the file."""


def expand(paths: Iterable[str]) -> list[str]:
    """Put the pictures of a folder, by name, in the place of the folder; subfolders are left alone."""
    expanded: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            inside = sorted(
                entry for entry in Path(path).iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file()
            )
            expanded += (os.path.join(path, entry.name) for entry in inside)  # noqa: PTH118 - keeps "./" as given
        else:
            expanded.append(path)
    return list(dict.fromkeys(expanded))


def read_image(path: str) -> NDArray[np.uint8]:
    """Read a picture the way it is meant to be seen (its EXIF orientation is applied).

    Returns:
        (H, W, 3) uint8 BGR; grey pictures and those with transparency are turned into that.

    Raises:
        ImageError: There is no such file, or it is no picture.
    """
    try:
        content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error as error:
        raise ImageError(f"{path}: can't be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{path}: not a picture that can be decoded")
    return image.astype(np.uint8, copy=False)


def drawing_path(path: str, draw_dir: Path, taken: set[Path]) -> Path:
    """Give where a picture's drawing goes: its own name, numbered when two folders have pictures of one name."""
    name, number = Path(path), 1
    suffix = name.suffix if name.suffix.lower() in SUFFIXES else f"{name.suffix}.png"
    target = draw_dir / f"{name.stem}{suffix}"
    while target in taken:
        number += 1
        target = draw_dir / f"{name.stem}-{number}{suffix}"
    taken.add(target)
    return target


def detect_images(
    paths: Iterable[str], detector: HandDetector, draw_dir: Path | None = None, draw: Drawing = annotate
) -> Iterator[tuple[str, Hands | ImageError]]:
    """Find the hands of one picture after the other.

    Args:
        paths: Files.
        detector: Finds the hands.
        draw_dir: Folder for annotated pictures, made when it is missing; None draws nothing.
        draw: Draws the hands into a copy of the picture.

    Yields:
        Each path with its hands, then with what was wrong if its drawing couldn't be written; or only with what was
        wrong with the picture. The others are still done.
    """
    taken: set[Path] = set()
    for path in paths:
        try:
            image = read_image(path)
            hands = detector.detect(image)
            yield path, hands
            if draw_dir is not None:
                _write(drawing_path(path, draw_dir, taken), draw(image, hands))
        except ImageError as error:
            yield path, error


def as_json(hands: Hands) -> list[dict[str, object]]:
    """Give hands as `detect --json` prints them: box in pixels to a tenth, side, score to a thousandth, and what HaMeR adds."""
    return [
        {
            "box": [round(float(value), 1) for value in box],
            "is_right": bool(is_right),
            "score": round(float(score), 3),
            **details,
        }
        for box, is_right, score, details in zip(
            hands.boxes, hands.is_right, hands.scores, hands.details(), strict=True
        )
    ]


def as_text(path: str, hands: Hands) -> str:
    """Give a picture's hands as lines for people."""
    lines = [f"{path}: {len(hands)} {'hand' if len(hands) == 1 else 'hands'}"]
    for box, is_right, score in zip(hands.boxes, hands.is_right, hands.scores, strict=True):
        x0, y0, x1, y1 = (round(float(value)) for value in box)
        side = "right" if is_right else "left"
        lines.append(f"  {side:5}  score {score:.2f}  box {x0},{y0} to {x1},{y1}")
    return "\n".join(lines)


def run_detect(
    images: Sequence[str],
    *,
    json_output: bool = False,
    draw_dir: Path | None = None,
    tiles: int = 2,
    min_score: float = MIN_SCORE,
    models_dir: Path | None = None,
    backend: str = "palm",
    hamer_checkpoint: Path | None = None,
    mano: Path | None = None,
    device: str = "auto",
    mesh: bool = False,
    num_threads: int | None = None,
) -> int:
    """Find hands in pictures and print them: what `hand-counter detect` does.

    Args:
        images: Files, or folders of which all pictures are taken.
        json_output: Print one JSON object {image: [hand, ...]} at the end, instead of lines as they come.
        draw_dir: Folder for annotated pictures.
        tiles: Tiles per side that are looked at besides the whole picture; 1 means none.
        min_score: Hands below this score aren't told.
        models_dir: Folder of the models; the user's cache by default.
        backend: What finds the hands; see open_backend, as for the next four.
        hamer_checkpoint: HaMeR's weights.
        mano: The hand model, where the weights lack it.
        device: What HaMeR runs on.
        mesh: Whether HaMeR's meshes are drawn and told, too.
        num_threads: Threads of the models; up to four by default, more don't help such small ones.

    Returns:
        The exit code: 0 done, 1 when the models or a picture failed (which standard error tells).
    """
    paths = expand(images)
    if not paths:
        return _fail(f"no pictures in {', '.join(images)}")
    try:
        hands = open_backend(
            backend=backend,
            tiles=tiles,
            min_score=min_score,
            models_dir=models_dir,
            hamer_checkpoint=hamer_checkpoint,
            mano=mano,
            device=device,
            mesh=mesh,
            num_threads=num_threads or min(4, os.cpu_count() or 1),
        )
    except BackendError as error:
        return _fail(str(error))
    try:
        return _detect_and_tell(paths, hands, draw_dir, json_output=json_output)
    finally:
        hands.close()


def _detect_and_tell(paths: Sequence[str], backend: Backend, draw_dir: Path | None, *, json_output: bool) -> int:
    code = 0
    found: dict[str, list[dict[str, object]]] = {}
    for path, hands in detect_images(paths, backend.make_detector(), draw_dir, backend.draw):
        if isinstance(hands, ImageError):
            code = _fail(str(hands))
        elif json_output:
            found[path] = as_json(hands)
        else:
            _say(sys.stdout, as_text(path, hands))
    if json_output:
        _say(sys.stdout, json.dumps(found, indent=2))
    return code


def run_models_fetch(models_dir: Path | None = None, *, hamer: bool = False, accept_licence: bool = False) -> int:
    """Fetch the models, replacing wrong ones: what `hand-counter models fetch` does.

    Args:
        models_dir: Where they go; the user's cache by default.
        hamer: Fetch HaMeR's weights instead.
        accept_licence: The user consents to the licences of those.

    Returns:
        The exit code: 0 when the right models are in their place, 1 when not (which standard error tells).
    """
    if hamer:
        return _fetch_hamer(models_dir or default_models_dir(), accept_licence)
    try:
        target = models_dir or default_models_dir()
        with download_progress(sys.stderr) as progress:
            paths = fetch_models(target, progress)
    except ModelError as error:
        return _fail(str(error))
    for path in (paths.palm, paths.landmarks):
        _say(sys.stdout, str(path))
    return 0


def _fetch_hamer(folder: Path, accept_licence: bool) -> int:
    from rich.console import Console

    from worker.hamer.fetch import FetchError, fetch_hamer

    ask = input if sys.stdin.isatty() else None
    try:
        checkpoint = fetch_hamer(folder, accept_licence=accept_licence, console=Console(stderr=True), ask=ask)
    except FetchError as error:
        return _fail(str(error))
    _say(sys.stdout, str(checkpoint))
    return 0


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a picture, in the format that its suffix names.

    Raises:
        ImageError: The folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _, content = cv2.imencode(path.suffix, image)
        path.write_bytes(content.tobytes())
    except (OSError, cv2.error) as error:
        raise ImageError(f"{path}: the drawing can't be written: {error}") from error


def _fail(message: str) -> int:
    _say(sys.stderr, f"hand-counter: {message}")
    return 1


def _say(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()
