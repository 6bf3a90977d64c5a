"""``hand-counter probe``: tries a source for a moment, and says what it is or why it can't be read."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from process.output import Output
from worker.picture_header import PictureError, size
from worker.publish.arrival import ArrivalTimes
from worker.publish.capture import Capture, open_capture
from worker.publish.container import Nature
from worker.publish.open_source import jpeg_encoder, open_source
from worker.publish.options import SourceOptions
from worker.publish.source import SourceError
from worker.publish.source_name import Kind, parse_source, read_secret
from worker.publish.thinning import Unlimited
from worker.publish.webcam import open_webcam

logger = logging.getLogger(__name__)

_NATURES = {Nature.FILM: "film", Nature.CAMERA: "camera", Nature.SNAPSHOT: "snapshot"}


@dataclass
class Trial:
    """What was found about a source."""

    source: str
    """Its name, without secrets."""
    kind: str = ""
    """``camera``, ``film``, ``snapshot``, ``folder`` or ``simulated``."""
    codec: str = ""
    size: str = ""
    """WIDTHxHEIGHT of its pictures, pixels."""
    nominal_fps: float | None = None
    """As the source says, frames per second; None: it doesn't."""
    measured_fps: float | None = None
    """As frames arrived; None: too few did, or they don't arrive by themselves."""
    frames: int = 0
    """That were received."""
    seconds: float = 0.0
    """In which they were."""
    error: str = ""
    """Why it can't be read, or why it ended; empty if it works."""


def run_probe(options: SourceOptions, *, seconds: float, snapshot: Path | None, as_json: bool) -> int:
    """Tries a source and prints what was found.

    Args:
        options: the source.
        seconds: how long its frames are looked at.
        snapshot: where its first picture is written; None: nowhere.
        as_json: whether to print one JSON object.

    Returns:
        The exit code: 0 if there is a picture.
    """
    trial, picture = try_source(options, seconds)
    if picture and snapshot:
        try:
            snapshot.write_bytes(picture)
        except OSError as error:
            logger.error("the snapshot can't be written", extra={"path": str(snapshot), "reason": error.strerror})
            return 1
    output = Output(sys.stdout)
    if as_json:
        output.line(json.dumps({"version": 1, **asdict(trial)}))
    elif picture:
        output.line(_sentence(trial))
    if trial.error:
        logger.error("%s", trial.error)
    return 0 if picture else 1


def try_source(options: SourceOptions, seconds: float) -> tuple[Trial, bytes]:
    """Returns what was found about a source, and its first picture, JPEG or PNG; empty if there is none."""
    name = parse_source(options.source, "" if options.password_file else None)
    trial = Trial(name.name)
    try:
        if name.kind in (Kind.FOLDER, Kind.SYNTHETIC):
            trial.kind = "folder" if name.kind is Kind.FOLDER else "simulated"
            return trial, _first_of(options, trial)
        capture = _open(options, name.kind)
        try:
            return trial, _look_at(capture, trial, options, seconds)
        finally:
            capture.close()
    except (SourceError, PictureError) as error:
        trial.error = str(error)
        return trial, b""


def _open(options: SourceOptions, kind: Kind) -> Capture:
    password = None
    if options.password_file:
        try:
            password = read_secret(options.password_file)
        except (OSError, ValueError):
            raise SourceError(f"the password's file {options.password_file} can't be read") from None
    found = parse_source(options.source, password)
    if kind is Kind.WEBCAM:
        return open_webcam(found.opens, found.name, options.reception)
    if kind is not Kind.FILM:
        return open_capture(found.opens, found.name, options.reception)
    if not Path(found.opens).exists():
        raise SourceError(f"{found.name}: no such file or folder")
    return open_capture(f"file:{found.opens}", found.name, options.reception)


def _look_at(capture: Capture, trial: Trial, options: SourceOptions, seconds: float) -> bytes:
    """Reads for so long, or one frame of what doesn't come by itself; returns the first picture."""
    trial.kind, trial.codec = _NATURES[capture.nature], capture.codec
    trial.nominal_fps = None if capture.nature is Nature.SNAPSHOT else capture.fps
    encode, stop, picture = jpeg_encoder(options.jpeg_quality), threading.Event(), b""
    began = ended = time.monotonic()
    for frame in capture.frames(ArrivalTimes(time.time), Unlimited(), encode, stop):
        ended = time.monotonic()
        trial.frames += 1
        if not picture and frame.encode is not None:
            picture = frame.encode()
            began = time.monotonic()  # opening took its time, and so did the first frame
            trial.size = "{}x{}".format(*size(picture))
        if picture and (capture.nature is not Nature.CAMERA or ended - began >= seconds):
            stop.set()
            break
    trial.seconds = round(max(0.0, ended - began), 3)
    if capture.nature is Nature.CAMERA and trial.frames > 2 and trial.seconds > 0.0:
        trial.measured_fps = round((trial.frames - 1) / trial.seconds, 2)
    if not stop.is_set():
        trial.error = f"{trial.source}: {capture.why_ended}"
    return picture


def _first_of(options: SourceOptions, trial: Trial) -> bytes:
    stop = threading.Event()
    for frame in open_source(options).frames(stop, Unlimited()):
        if frame.encode is not None:
            picture = frame.encode()
            trial.frames, trial.size = 1, "{}x{}".format(*size(picture))
            return picture
    raise SourceError(f"{trial.source}: there is no picture")


def _sentence(trial: Trial) -> str:
    words = [f"{trial.source}: {trial.kind}", trial.codec, trial.size]
    if trial.nominal_fps:
        words.append(f"{trial.nominal_fps:g} fps by its own account")
    if trial.measured_fps:
        words.append(f"{trial.measured_fps:g} fps measured in {trial.seconds:.1f} s")
    return ", ".join(filter(None, words))
