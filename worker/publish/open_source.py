"""Opens the source that users name."""

from __future__ import annotations

import time

import cv2

from worker.picture import Picture
from worker.picture_files import encode as encode_as
from worker.publish.film import Film, Folder, SimulatedCamera
from worker.publish.live import LiveCamera
from worker.publish.options import SourceOptions
from worker.publish.source import Encode, Source, SourceError
from worker.publish.source_name import Kind, SourceName, parse_source, read_secret
from worker.synthetic.spec import parse_synthetic


def open_source(options: SourceOptions) -> Source:
    """Opens a source. Raises SourceError."""
    start, paced, encode = time.time(), not options.fast, jpeg_encoder(options.jpeg_quality)
    source = name_of(options)
    match source.kind:
        case Kind.SYNTHETIC:
            return SimulatedCamera(parse_synthetic(source.opens), encode, paced=paced)
        case Kind.WEBCAM:
            return LiveCamera.from_webcam(source.name, source.opens, encode)
        case Kind.CAMERA_URL:
            return LiveCamera.from_url(source.name, lambda: _with_password(options), encode)
        case Kind.FOLDER:
            return Folder(source.opens, encode, fps=options.folder_fps, start=start, loop=options.loop, paced=paced)
        case Kind.FILM:
            return Film(
                source.name, lambda: _with_password(options), encode, start=start, loop=options.loop, paced=paced
            )


def name_of(options: SourceOptions) -> SourceName:
    """Returns what the source is, without its password if that is in a file."""
    return parse_source(options.source, "" if options.password_file else None)


def _with_password(options: SourceOptions) -> str:
    """Returns what opens the source, with the password that its file has now. Raises SourceError."""
    path = options.password_file
    try:
        return parse_source(options.source, read_secret(path) if path else None).opens
    except OSError as error:
        raise SourceError(f"the password's file {path} can't be read: {error.strerror or error}") from None
    except ValueError:
        raise SourceError(f"the password's file {path} isn't text") from None


def jpeg_encoder(quality: int) -> Encode:
    """Returns a function that encodes pictures as JPEG of this quality, 1 to 100, or raises PictureError."""

    def encode(picture: Picture) -> bytes:
        return encode_as(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])

    return encode
