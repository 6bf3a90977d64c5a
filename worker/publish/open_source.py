"""Opens the source that users name."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2

from process.backoff import Backoff
from worker.picture import Picture
from worker.picture_files import encode as encode_as
from worker.publish.capture import Capture, open_capture
from worker.publish.clock_jumps import ClockJumps
from worker.publish.container import Nature
from worker.publish.film import Film
from worker.publish.folder import Folder, WatchedFolder
from worker.publish.live import LiveCamera, NotACameraError, Reading
from worker.publish.options import SourceOptions
from worker.publish.outages import Outages
from worker.publish.simulated import SimulatedCamera
from worker.publish.snapshots import Snapshots, fetch
from worker.publish.source import Encode, Source, SourceError
from worker.publish.source_name import Kind, SourceName, parse_source, read_secret
from worker.publish.webcam import open_webcam
from worker.synthetic.spec import parse_synthetic

Opened = TypeVar("Opened")

_WEBCAM_FIRST_S = 0.5
"""Seconds before a webcam is opened again, which needs some after it was unplugged."""


def open_source(options: SourceOptions, outages: Outages | None = None) -> Source:
    """Opens a source, which notes its outages. Raises SourceError."""
    start, paced, encode = time.time(), not options.fast, jpeg_encoder(options.jpeg_quality)
    source = name_of(options)
    outages = outages or Outages(source.name)
    if options.watch and source.kind is not Kind.FOLDER:
        raise SourceError(f"{source.name}: --watch needs a folder that exists")
    match source.kind:
        case Kind.SYNTHETIC:
            return SimulatedCamera(parse_synthetic(source.opens), encode, paced=paced)
        case Kind.WEBCAM:
            return _webcam(source, options, encode, outages)
        case Kind.CAMERA_URL:
            return LiveCamera(outages, lambda: _open(source, options), encode, backoff=Backoff())
        case Kind.HTTP_URL:
            return _http(source, options, encode, outages, start, paced)
        case Kind.FOLDER if options.watch:
            return WatchedFolder(source.opens, encode)
        case Kind.FOLDER:
            return Folder(source.opens, encode, fps=options.folder_fps, start=start, loop=options.loop, paced=paced)
        case Kind.FILM:
            return Film(
                source.name,
                lambda: _film(source, options),
                encode,
                start=start,
                loop=options.loop,
                paced=paced,
                on_jump=ClockJumps(outages.about),
            )


def name_of(options: SourceOptions) -> SourceName:
    """Returns what the source is, without its password if that is in a file."""
    return parse_source(options.source, "" if options.password_file else options.password)


def _webcam(source: SourceName, options: SourceOptions, encode: Encode, outages: Outages) -> LiveCamera:
    """Opens a camera of this machine at once, because its number may be wrong."""
    opens = _again(lambda: open_webcam(source.opens, source.name, options.reception))
    return LiveCamera(outages, opens, encode, backoff=Backoff(first_s=_WEBCAM_FIRST_S))


def _http(
    source: SourceName, options: SourceOptions, encode: Encode, outages: Outages, start: float, paced: bool
) -> Source:
    """Opens what a server has, to see what it is. While that can't be seen, it may be a camera that starts later."""
    backoff = Backoff()
    try:
        opened = _open(source, options)
    except SourceError as error:
        outages.lost(str(error))
        return LiveCamera(outages, lambda: _reading(source, options), encode, backoff=backoff)
    if opened.nature is Nature.FILM:
        return Film(
            source.name,
            _again(lambda: _open(source, options), opened),
            encode,
            start=start,
            loop=options.loop,
            paced=paced,
            on_jump=ClockJumps(outages.about),
        )
    reopens = _again(lambda: _reading(source, options), _as_reading(opened, source, options))
    return LiveCamera(outages, reopens, encode, backoff=backoff)


def _reading(source: SourceName, options: SourceOptions) -> Reading:
    capture = _open(source, options)
    if capture.nature is Nature.FILM:
        capture.close()
        raise NotACameraError(f"{source.name} is a film; start again to publish it as one")
    return _as_reading(capture, source, options)


def _as_reading(capture: Capture, source: SourceName, options: SourceOptions) -> Reading:
    if capture.nature is Nature.CAMERA:
        return capture
    capture.close()
    return Snapshots(lambda: fetch(_with_password(options), source.name, options.reception), options.folder_fps)


def _open(source: SourceName, options: SourceOptions) -> Capture:
    return open_capture(_with_password(options), source.name, options.reception)


def _film(source: SourceName, options: SourceOptions) -> Capture:
    try:
        mode = Path(source.opens).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        mode = 0
    except OSError as error:
        raise SourceError(f"{source.name}: {(error.strerror or type(error).__name__).lower()}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise SourceError(f"{source.name}: no such file or folder")
    # Without the prefix, FFmpeg takes what precedes a colon for a protocol.
    return open_capture(f"file:{source.opens}", source.name, options.reception, hurries=options.fast)


def _again(opens: Callable[[], Opened], first: Opened | None = None) -> Callable[[], Opened]:
    """Returns a function that returns what is open already, and opens it anew from the second call on."""
    opened = [opens() if first is None else first]
    return lambda: opened.pop() if opened else opens()


def _with_password(options: SourceOptions) -> str:
    """Returns what opens the source, with the password that its file has now. Raises SourceError."""
    path = options.password_file
    try:
        return parse_source(options.source, read_secret(path) if path else options.password).opens
    except OSError as error:
        raise SourceError(f"the password's file {path} can't be read: {error.strerror or error}") from None
    except ValueError:
        raise SourceError(f"the password's file {path} isn't text") from None


def jpeg_encoder(quality: int) -> Encode:
    """Returns a function that encodes pictures as JPEG of this quality, 1 to 100, or raises PictureError."""

    def encode(picture: Picture) -> bytes:
        return encode_as(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])

    return encode
